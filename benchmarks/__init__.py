"""What the library costs, measured beside what the same work costs without it."""
