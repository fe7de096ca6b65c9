"""Content of unknown origin, and the limits of its effects."""
