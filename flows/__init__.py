"""Prefect flows, the commands and the command line."""

import os

# NumPy's matrix products are small here. More threads only wait for each other, and with other work on the
# machine they cost six times the processor time. It counts only before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
