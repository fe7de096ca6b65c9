"""Divide work into parts that any process can run, because their inputs and outputs are on disk.

A folder that all workers share holds arrays (`.npy`) and texts. A part is a small record of the range that it
covers.
"""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Indices = NDArray[np.int64]


def split_range(count: int, size: int) -> list[tuple[int, int]]:
    """Split `range(count)` into ranges (start, stop) of at most `size`."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def split_by_cost(totals: Indices, cost: int) -> list[tuple[int, int]]:
    """Split items into ranges (start, stop) that cost about `cost` each.

    Args:
        totals: Shape (n,). Cumulative cost of the items.
        cost: Target cost of a range.
    """
    steps = np.arange(cost, int(totals[-1]) + cost, cost) if len(totals) else np.empty(0, np.int64)
    until = np.minimum(np.searchsorted(totals, steps) + 1, len(totals)).tolist()
    ends = sorted({*until, len(totals)} - {0})
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


def read_array(path: Path) -> NDArray[Any]:
    """Open an array as a memory map, so that only the accessed parts are read."""
    return np.asarray(np.load(path, mmap_mode="r"))


def create_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Create an array on disk for `write_array_rows` to fill."""
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def write_array_rows(path: Path, start: int, rows: NDArray[Any]) -> None:
    """Write rows of an existing array, from row `start` on.

    Workers may write different rows at the same time.
    """
    offset = np.load(path, mmap_mode="r").offset
    with path.open("r+b") as stream:
        stream.seek(offset + start * rows[:1].nbytes)
        stream.write(np.ascontiguousarray(rows).tobytes())


@contextmanager
def work_folder(job: str, parent: Path | None) -> Iterator[Path]:
    """Create a folder for the arrays of a job, and delete it at the end.

    A killed process leaves its folder behind. The next run of the same job on this machine deletes it.

    Args:
        job: Name of the job.
        parent: Folder that all workers share. By default, the temporary folder of the system.
    """
    home = parent or Path(gettempdir())
    machine = f"{zlib.crc32(platform.node().encode()):08x}"
    for left in home.glob(f".{job}-{machine}-*-*"):
        owner = left.name.split("-")[2]
        if left.is_dir() and owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=f".{job}-{machine}-{os.getpid()}-", dir=home) as folder:
        yield Path(folder)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class TextFiles:
    """Numbered texts in the files of a folder.

    `locations.npy` holds one row per text: the number of its file, and its start and stop in bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def locations(self) -> NDArray[np.int64]:
        """Shape (texts, 3)."""
        return read_array(self.folder / "locations.npy")

    def __len__(self) -> int:
        return len(self.locations)

    def write(self, texts: Iterable[str]) -> None:
        """Write texts to one file and number them in their order."""
        np.save(self.folder / "locations.npy", write_texts(self.folder, 0, texts))

    def read(self, numbers: Indices | slice) -> list[str]:
        """Return the texts with these numbers, in this order."""
        locations = self.locations[numbers]
        files = {number: _map_file(_text_file(self.folder, number)) for number in np.unique(locations[:, 0])}
        encoded = [files[file][start:stop] for file, start, stop in locations.tolist()]
        return [text.decode("utf-8", "surrogatepass") for text in encoded]

    def chunks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, list[str]]]:
        """Yield the texts from `start` to `stop` in chunks, each with the number of its first text."""
        for at in range(start, stop, size):
            yield at, self.read(slice(at, min(at + size, stop)))


def write_texts(folder: Path, number: int, texts: Iterable[str]) -> NDArray[np.int64]:
    """Write the texts to file `number` of the folder and return their locations, shape (n, 3)."""
    sizes = []
    with _text_file(folder, number).open("wb") as stream:
        for text in texts:
            sizes.append(stream.write(text.encode("utf-8", "surrogatepass")))
        stream.write(b"\n")  # an empty file cannot be memory-mapped
    stops = np.cumsum(np.array(sizes, np.int64))
    starts = np.concatenate([[0], stops])[: len(stops)]
    return np.stack([np.full(len(stops), number, np.int64), starts, stops], axis=1)


def _text_file(folder: Path, number: int) -> Path:
    return folder / f"texts-{number:05}.bin"


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
