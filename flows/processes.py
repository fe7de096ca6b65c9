"""Stop a command on a signal, and leave no child process behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that stop a command. Each ends it like Ctrl-C."""
GRACE_S = 4.5
"""Seconds in which a stopped command may flush its cache and release its claims."""
PR_SET_PDEATHSIG = 1
"""Option of prctl(2): the signal that a process gets when the process that started it ends."""


class StopSignals:
    """The signals that a command has received."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """Exit code of a stopped command: 128 and the number of the first signal."""
        return 128 + (self.first or signal.SIGINT)


@contextmanager
def stop_on_signals() -> Iterator[StopSignals]:
    """Raise `KeyboardInterrupt` in the main thread on SIGTERM and SIGHUP, as on SIGINT.

    A second signal ends the process at once, and so do `GRACE_S` seconds after the first. Both kill the
    children. A signal that the parent process ignores (`nohup`) stays ignored.
    """
    stopped = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in STOPPING}

    def interrupt(number: int, frame: Any) -> None:
        stopped.first = stopped.first or signal.Signals(number)
        # Event loops replace the handler of SIGINT with one that cancels their main task.
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    read, write = os.pipe()
    os.set_blocking(write, False)
    # The pipe is written by the C handler, so that a signal counts while the main thread is in a long C call.
    previous = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read, stopped), daemon=True, name="stop-signals").start()
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield stopped
    finally:
        if stopped.first is None:
            signal.set_wakeup_fd(previous)
            os.close(write)  # ends the thread
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, before[number])


def _watch(read: int, stopped: StopSignals) -> None:
    again = echo = False
    while received := os.read(read, 1):
        if received[0] not in STOPPING:
            continue
        stopped.first = stopped.first or signal.Signals(received[0])
        if again and not echo:
            _end_now(stopped.exit_code)
        if again:
            echo = False
            continue
        again, echo = True, _is_sent_again(received[0])
        _interrupt_workers()
        timer = threading.Timer(GRACE_S, _end_now, [stopped.exit_code])
        timer.daemon = True
        timer.start()
    os.close(read)


def _is_sent_again(number: int) -> bool:
    """Return whether the current handler sends the signal to this process again after it has cleaned up."""
    handler = signal.getsignal(number)
    return str(getattr(handler, "__module__", "")).startswith(("prefect", "uvicorn"))


def _interrupt_workers() -> None:
    """Raise `KeyboardInterrupt` in the threads that run a stage, which close their answer caches then."""
    main = threading.main_thread().ident
    for ident, frame in sys._current_frames().items():
        if ident != main and _is_in_stage(frame):
            interrupt = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), interrupt)


def _is_in_stage(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("tasks."):
            return True
        frame = frame.f_back
    return False


def _end_now(code: int) -> None:
    with suppress(Exception):
        kill_descendants()
    os._exit(code)


def kill_descendants(wait_s: float = 0.0) -> None:
    """Kill the processes that this process and its children have started. On Linux only.

    Args:
        wait_s: Seconds to wait between SIGTERM and SIGKILL. With 0, only SIGKILL is sent.
    """
    if wait_s:
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + wait_s
        while descendants(os.getpid()) and time.monotonic() < end:
            time.sleep(0.05)
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the running children of a process and theirs, parents first. Empty without /proc."""
    children: dict[int, list[int]] = defaultdict(list)
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # The name in parentheses may contain spaces and parentheses itself.
            state, parent = place.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children[int(parent)].append(int(place.parent.name))
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def end_with_parent() -> Callable[[], None] | None:
    """Return a `preexec_fn` for a child process that the kernel kills when this process ends.

    Returns:
        None on other systems than Linux.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)

    return prepare
