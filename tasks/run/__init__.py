"""The run directory: steps, journal, ledger and progress."""
