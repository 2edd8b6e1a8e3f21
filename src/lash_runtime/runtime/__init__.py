"""Floor 5: one session at work: its lane, its lease, its turns and its commits."""
