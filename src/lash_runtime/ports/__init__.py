"""Floor 2: the protocols that adapters implement and the runtime calls, with their values."""
