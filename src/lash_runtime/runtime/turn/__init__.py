"""One turn, from its acceptance to its commit."""
