"""How a turn goes: protocols, each a driver for the turn machine and what its model is told."""
