"""Tell linear from quadratic time, on a machine of any speed."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 2_500, 20_000
LARGEST_RATIO = 4 * LONG / SHORT
"""Linear time gives 8 and quadratic time 64. The bar lies between them, so a busy machine does not decide."""


def grows_linearly(read: Callable[[int], object]) -> bool:
    """Compare the CPU time of reading a long text with a short one, the better of two tries each.

    Args:
        read: Reads a text of a given length in characters.

    Returns:
        Whether the ratio of the times is nearer to linear than to quadratic growth.
    """
    return cpu_s(read, LONG) < LARGEST_RATIO * cpu_s(read, SHORT)


def cpu_s(read: Callable[[int], object], length: int) -> float:
    """Return the lower CPU time of two calls."""
    seconds = []
    for _ in range(2):
        started = time.process_time()
        read(length)
        seconds.append(time.process_time() - started)
    return max(min(seconds), 0.001)
