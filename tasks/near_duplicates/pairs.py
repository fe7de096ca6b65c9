"""Work in parts: pieces of a job that any process may do, because what they need is on disk.

A folder that every worker sees holds arrays (`.npy`) and texts; a part says which stretch of them it is for
and is a few numbers long. `Each` does all parts of a job: one after the other here, or somewhere else.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tasks.near_duplicates.sketches import Sketches, SketchScale, band_keys, sketch_texts

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


# Pairs of texts that may match, found part by part. The texts' sketches are on disk, best text first.
#
# Two ways: through windows of texts of like length, which lets no match go by; or through bands of MinHash
# keys, which hardly lets any go by and does not look at all pairs.


BLOCK = 16
READ_AT_ONCE = 8_192
GATHERED = 100_000
PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Sketching:
    """Texts `start` to `stop`, to be sketched: for bounds on a scale, or for keys of `rows` values each."""

    folder: Path
    start: int
    stop: int
    scale: SketchScale | None = None
    bands: int = 0
    rows: int = 0


def write_sketches(part: Sketching) -> None:
    """The bounds of a stretch of texts, into the arrays that `Sketches` are read from."""
    assert part.scale is not None
    for start, texts in TextFiles(part.folder).chunks(part.start, part.stop, READ_AT_ONCE):
        sketches = sketch_texts(texts, part.scale)
        for name in ("lengths", "bags", "grams"):
            write_rows(part.folder / f"{name}.npy", start, getattr(sketches, name))


def write_keys(part: Sketching) -> None:
    """The band keys of a stretch of texts, one array a band."""
    guards = read_array(part.folder / "guards.npy")
    for start, texts in TextFiles(part.folder).chunks(part.start, part.stop, READ_AT_ONCE):
        keys = band_keys(texts, guards[start : start + len(texts)], bands=part.bands, rows=part.rows)
        for band, row in enumerate(keys):
            write_rows(key_file(part.folder, band), start, row)


def key_file(folder: Path, band: int) -> Path:
    return folder / f"keys-{band:02}.npy"


def read_sketches(folder: Path) -> Sketches:
    return Sketches(*(read_array(folder / f"{name}.npy") for name in ("lengths", "bags", "grams")))


@dataclass(frozen=True)
class SearchRange:
    """Where to look for pairs among the texts that stay (`stay.npy`): from `start` to `stop` of the order by
    length (`order.npy`), or of the bands."""

    folder: Path
    start: int
    stop: int
    partners: int
    """With how many others a text is paired."""
    slack: float
    fixed: int
    """Texts that are not compared with each other: the first ones."""
    among: bool
    """Whether the others are compared with each other, too."""

    @property
    def found(self) -> Path:
        """Where the pairs go that may match: better * n + worse, sorted, each once."""
        return self.folder / f"found-{self.start:09}.npy"

    def possible(self, sketches: Sketches, left: Indices, right: Indices) -> Indices:
        """Those pairs that are to be compared and may match."""
        better, worse = np.minimum(left, right), np.maximum(left, right)
        new = (worse >= self.fixed) & ((better < self.fixed) | self.among)
        better, worse = better[new], worse[new]
        possible = sketches.may_match(better, worse, self.slack)
        return better[possible] * len(sketches.lengths) + worse[possible]


def look_in_windows(part: SearchRange) -> bool:
    """Look at all pairs, until there are more than was asked for; whether these are all."""
    sketches = read_sketches(part.folder)
    found, count, complete = [np.empty(0, np.int64)], 0, True
    for left, right in _gathered(_of_like_length(part, sketches)):
        found.append(part.possible(sketches, left, right))
        count += len(found[-1])
        if count > part.partners * BLOCK * (part.stop - part.start):
            complete = False
            break
    np.save(part.found, np.sort(np.concatenate(found)))
    return complete


def look_in_bands(part: SearchRange) -> bool:
    """Look at each text with the best `partners` of its band key; whether none has more."""
    sketches = read_sketches(part.folder)
    stay = read_array(part.folder / "stay.npy")
    found, complete = np.empty(0, np.int64), True
    for band in range(part.start, part.stop):
        keys = read_array(key_file(part.folder, band))[stay]
        order = np.argsort(keys, kind="stable")
        position = position_in_run(keys[order])
        complete &= bool((position <= part.partners).all())
        for some in _pairs_in_runs(stay[order], position, part.partners):
            found = united(found, part.possible(sketches, *some))
    np.save(part.found, found)
    return complete


def windows(lengths: Indices, guards: Indices, slack: float) -> Indices:
    """For each text, sorted by guard and length, the end of those behind it that have its guard and are
    short enough to match it."""
    longest = int(lengths.max(initial=0))
    reach = np.floor(lengths * (1 + slack) / max(1 - slack, 1e-9) + 1e-6)
    within = guards * (longest + 1) + np.minimum(reach, longest).astype(np.int64)
    return np.asarray(np.searchsorted(guards * (longest + 1) + lengths, within, side="right"))


def _of_like_length(part: SearchRange, sketches: Sketches) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of equal guard whose lengths and bags allow a match (by the longest text of a block)."""
    order, until = read_array(part.folder / "order.npy"), read_array(part.folder / "until.npy")
    reach = int(until[part.stop - 1])
    some = order[part.start : reach]
    lengths = sketches.lengths[some]
    bags = np.ascontiguousarray(sketches.bags[some].T)
    for begin in range(part.start, part.stop, BLOCK):
        stop = min(begin + BLOCK, part.stop)
        first, last, end = begin - part.start, stop - part.start, int(until[stop - 1]) - part.start
        edits = np.zeros((last - first, end - first), np.uint16)
        for word in bags:
            edits += np.bitwise_count(word[first:last, None] ^ word[None, first:end])
        allowed = part.slack * (lengths[first:last].max() + lengths[first:end]) + 1e-6
        row, column = np.nonzero(edits <= np.minimum(allowed, 65_535).astype(np.uint16))
        wanted = (column > row) & (column + begin < until[begin + row])
        yield some[first + row[wanted]], some[first + column[wanted]]


def position_in_run(keys: NDArray[np.uint32]) -> Indices:
    """How many equal keys stand before each one. The keys are sorted."""
    at = np.arange(len(keys))
    starts = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]
    return at - np.maximum.accumulate(np.where(starts, at, 0))


def _pairs_in_runs(texts: Indices, position: Indices, most: int) -> Iterator[tuple[Indices, Indices]]:
    """Each text with the first `most` of its run before it, some millions of pairs at a time."""
    partners = np.minimum(position, most)
    total = np.cumsum(partners)
    start = 0
    while start < len(texts):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + PAIRS_AT_ONCE, side="right")))
        count = partners[start:stop]
        worse = np.repeat(np.arange(start, stop), count)
        nth = np.arange(len(worse)) - np.repeat(np.cumsum(count) - count, count)
        yield texts[worse - position[worse] + nth], texts[worse]
        start = stop


def united(some: Indices, others: Indices) -> Indices:
    """All numbers of either, sorted, each once. (`np.unique` takes minutes over regular numbers.)"""
    both: Indices = np.sort(np.concatenate([some, others]))
    return np.asarray(both[np.concatenate([[True], both[1:] != both[:-1]])[: len(both)]])


def _gathered(pairs: Iterable[tuple[Indices, Indices]]) -> Iterator[tuple[Indices, Indices]]:
    """The same pairs in larger arrays."""
    held: list[tuple[Indices, Indices]] = []
    count = 0
    for pair in pairs:
        held.append(pair)
        count += len(pair[0])
        if count >= GATHERED:
            yield np.concatenate([a for a, _ in held]), np.concatenate([b for _, b in held])
            held, count = [], 0
    if held:
        yield np.concatenate([a for a, _ in held]), np.concatenate([b for _, b in held])
