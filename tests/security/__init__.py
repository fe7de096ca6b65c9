"""Content of unknown origin: what it may cause, and what it may not."""
