"""Floor 0: frozen values. They know nothing of time, storage, tasks or each other's users."""
