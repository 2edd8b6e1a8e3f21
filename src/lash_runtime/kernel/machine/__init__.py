"""A turn as a sans-IO state machine: states, effects, answers, and what drives them."""
