"""Floor 1: pure functions, tables and the turn machine. No clock, no I/O, no event loop."""
