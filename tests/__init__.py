"""Tests."""

import flows  # noqa: F401 - limits the threads of NumPy before it is imported
