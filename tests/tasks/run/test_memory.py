"""Freed memory goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys
import weakref

import pytest

from tasks.run.memory import drain


class Item:
    """Something that can be referenced weakly."""


def test_items_are_yielded_in_order_and_freed_one_by_one() -> None:
    items = [Item() for _ in range(3)]
    references = [weakref.ref(item) for item in items]
    drained = drain(items)
    for reference in references:
        assert next(drained) is reference()
        assert reference() is None
    assert items == []


FRAGMENTED = """
from pathlib import Path
from tasks.run.memory import release_memory

def resident_mb():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

texts = ["x" * 9_000 + str(i) for i in range(30_000)]
texts = texts[::100]
before = resident_mb()
release_memory()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only this library keeps freed memory")
def test_memory_between_records_in_use_is_returned() -> None:
    command = [sys.executable, "-c", FRAGMENTED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 100
