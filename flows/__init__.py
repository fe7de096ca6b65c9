"""Prefect flows, the commands and the command line."""

import os
import signal
import sys
import threading

# NumPy's matrix products are small here. More threads only wait for each other, and with other work on the
# machine they cost six times the processor time. It counts only before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Ctrl-C while the program loads ends it without a traceback. `flows.cli.main` takes over. Workers, which also
# import this package, keep their handlers.
_main = sys.modules.get("__main__")
if (
    getattr(_main, "__name__", "") == "__main__"
    and str(getattr(_main, "__file__", "")).endswith("counterfoil")
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
