"""Flask with plain views and sqlite3: nothing to await, and nothing that waits for an event loop."""
