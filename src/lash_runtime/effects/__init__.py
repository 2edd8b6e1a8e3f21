"""Effect hosts: who executes, records or replays the steps of a turn."""
