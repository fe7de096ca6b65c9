"""Work in parts: pieces of a job that any process may do, because what they need is on disk.

A folder that every worker sees holds arrays (`.npy`) and texts; a part says which stretch of them it is for
and is a few numbers long. `Each` does all parts of a job: one after the other here, or somewhere else.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

P = TypeVar("P")
R = TypeVar("R")
Indices = NDArray[np.int64]


class Each(Protocol):
    """Does a job for each part and returns the results in the order of the parts."""

    def __call__(self, job: Callable[[P], R], parts: Sequence[P], /) -> list[R]: ...


def in_turn(job: Callable[[P], R], parts: Sequence[P], /) -> list[R]:
    """`Each`, in this process and one after the other."""
    return [job(part) for part in parts]


def spans(count: int, most: int) -> list[tuple[int, int]]:
    """Stretches (start, stop) of at most that many, which together are all of `count`."""
    return [(start, min(start + most, count)) for start in range(0, count, most)]


def even_spans(totals: Indices, most: int) -> list[tuple[int, int]]:
    """Stretches of items so that each adds up to about `most`; `totals` are the running totals."""
    steps = np.arange(most, int(totals[-1]) + most, most) if len(totals) else np.empty(0, np.int64)
    until = np.minimum(np.searchsorted(totals, steps) + 1, len(totals)).tolist()
    ends = sorted({*until, len(totals)} - {0})
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


def read_array(path: Path) -> NDArray[Any]:
    """An array of which only what is looked at is read."""
    return np.asarray(np.load(path, mmap_mode="r"))


def make_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """An array on disk whose rows are still to be written."""
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def write_rows(path: Path, start: int, rows: NDArray[Any]) -> None:
    """Rows of an array that was made, from `start` on. Workers write different rows at the same time."""
    offset = np.load(path, mmap_mode="r").offset
    with path.open("r+b") as stream:
        stream.seek(offset + start * rows[:1].nbytes)
        stream.write(np.ascontiguousarray(rows).tobytes())


class TextFiles:
    """Texts on disk by number. `places` is an array of (file, start, stop) in bytes, one row a text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def places(self) -> NDArray[np.int64]:
        return read_array(self.folder / "places.npy")

    def __len__(self) -> int:
        return len(self.places)

    def write(self, texts: Iterable[str]) -> None:
        """These texts in one file, numbered in their order."""
        np.save(self.folder / "places.npy", write_texts(self.folder, 0, texts))

    def read(self, numbers: Indices | slice) -> list[str]:
        """Texts by their numbers, in that order."""
        wanted = self.places[numbers]
        files = {number: _mapped(_text_file(self.folder, number)) for number in np.unique(wanted[:, 0])}
        found = [files[file][start:stop] for file, start, stop in wanted.tolist()]
        return [text.decode("utf-8", "surrogatepass") for text in found]

    def chunks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, list[str]]]:
        """Texts from `start` to `stop`, some at a time, each time with the number of the first."""
        for at in range(start, stop, size):
            yield at, self.read(slice(at, min(at + size, stop)))


def write_texts(folder: Path, number: int, texts: Iterable[str]) -> NDArray[np.int64]:
    """One file of texts; where each of them stands in it, shape (n, 3)."""
    sizes = []
    with _text_file(folder, number).open("wb") as stream:
        for text in texts:
            sizes.append(stream.write(text.encode("utf-8", "surrogatepass")))
        stream.write(b"\n")  # an empty file could not be mapped
    stops = np.cumsum(np.array(sizes, np.int64))
    starts = np.concatenate([[0], stops])[: len(stops)]
    return np.stack([np.full(len(stops), number, np.int64), starts, stops], axis=1)


def _text_file(folder: Path, number: int) -> Path:
    return folder / f"texts-{number:05}.bin"


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
