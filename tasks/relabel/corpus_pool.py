"""A BM25 index over a corpus that need not fit in memory.

    passages.jsonl               the passages, one per line
    scores.f32, documents.i32    the columns of the index of bm25s, one per word

Memory-mapped files hold everything but the words, three numbers per passage, and the scores of one query. The
scores are those of `PassagePool`, to the last bit.

References:
    Sparse matrix of scores: Lù (2024), arXiv 2407.03618.
    BM25 as in Lucene: Kamphuis et al. (2020), doi:10.1007/978-3-030-45442-5_4.
"""

from __future__ import annotations

import math
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from schemas.labels import Passage
from tasks.relabel.mining import PassagePool
from tasks.relabel.rule_judges import split_words, stem
from tasks.relabel.same_text import match_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEXED_AT_ONCE = 20_000
"""Passages whose words are in memory at the same time."""


class CorpusPool(PassagePool):
    """A BM25 index over the passages of a corpus, in unnamed files. Repeated texts are indexed once."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        with tempfile.TemporaryDirectory(prefix="counterfoil-corpus-") as name:
            # The files are deleted, but their content remains until the pool is gone. So a killed process
            # that has an index leaves none of it.
            stored = StoredPassages.write(Path(name) / "passages.jsonl", passages)
            self._index: Any = WordIndex(Path(name), stored)
        self._passages: Any = stored
        self._position: Any = stored.positions
        self._texts: Any = range(len(stored))
        self._forget()

    def rank(self, query: str, passage: Passage) -> int | None:
        """Return how many passages score at least as high, itself included. `None` without a score."""
        own = self.score(query, passage)
        scores: Any = self._cached_scores(query)
        return None if own is None else int((scores >= own).sum())


class StoredPassages:
    """Distinct passages in a file, read by their number. Of passages with the same text, the last is kept."""

    def __init__(self, stream: IO[bytes], lines: NDArray[np.int64], positions: Positions) -> None:
        """Read passages from an open file. `lines` has the start and the end of each, shape (n, 2)."""
        self._stream, self._lines, self.positions = stream, lines, positions

    @classmethod
    def write(cls, path: Path, passages: Iterable[Passage]) -> StoredPassages:
        """Write passages to a file. Passages without text are left out."""
        import numpy as np

        ends, keys = array("q", [0]), array("Q")
        with path.open("wb") as stream:
            for passage in passages:
                if passage.text.strip():
                    line = passage.model_dump_json().encode() + b"\n"
                    keys.append(_hash_key(match_key(passage.text)))
                    ends.append(ends[-1] + stream.write(line))
        hashes = np.frombuffer(keys, np.uint64) if keys else np.empty(0, np.uint64)
        # A passage has the place of the first one with its text.
        distinct, first = np.unique(hashes, return_index=True)
        _, last = np.unique(hashes[::-1], return_index=True)
        order = np.argsort(first, kind="stable")
        kept = len(hashes) - 1 - last[order]
        edges = np.frombuffer(ends, np.int64)
        lines = np.stack([edges[kept], edges[kept + 1]], axis=1)
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(len(order))
        return cls(path.open("rb"), lines, Positions(distinct, places))

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, position: int) -> Passage:
        start, end = self._lines[position].tolist()
        return Passage.model_validate_json(os.pread(self._stream.fileno(), end - start, start))

    def __iter__(self) -> Iterator[Passage]:
        return (self[position] for position in range(len(self)))


class Positions:
    """Numbers of passages by the key of their text."""

    def __init__(self, keys: NDArray[np.uint64], places: NDArray[np.int64]) -> None:
        self._keys, self._places = keys, places

    def get(self, key: str) -> int | None:
        """Return the number of the passage with a key, or `None`."""
        import numpy as np

        own = np.uint64(_hash_key(key))
        place = int(np.searchsorted(self._keys, own))
        return int(self._places[place]) if place < len(self._keys) and self._keys[place] == own else None

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __getitem__(self, key: str) -> int:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found


class WordIndex:
    """The BM25 scores of every word in every passage, by word, in memory-mapped files."""

    def __init__(self, folder: Path, passages: Iterable[Passage]) -> None:
        """Index passages in two passes: count the words, then place the scores."""
        import bm25s
        import numpy as np

        self._index = bm25s.BM25()
        self._numbers: dict[str, int] = {}
        self._lengths = array("q")
        frequency, parts = _no_numbers(), []
        for number, chunk in enumerate(_chunks(passages)):
            parts.append(folder / f"words-{number:06}.npy")
            counted = self._count_words(chunk)
            np.save(parts[-1], counted)
            frequency = np.pad(frequency, (0, len(self._numbers) - len(frequency)))
            frequency += np.bincount(counted[1], minlength=len(self._numbers))
        self._ends = np.concatenate([[0], np.cumsum(frequency)])
        self._scores = _create(folder / "scores.f32", np.float32, int(self._ends[-1]))
        self._documents = _create(folder / "documents.i32", np.int32, int(self._ends[-1]))
        self._place_scores(parts, frequency)

    def _count_words(self, passages: Sequence[Passage]) -> NDArray[np.int32]:
        """Return the passage, the word and the number of occurrences, shape (3, n), sorted by passage."""
        import numpy as np

        start, words, lengths = len(self._lengths), array("i"), []
        for passage in passages:
            stems = [stem(word) for word in split_words(passage.text)]
            lengths.append(len(stems))
            words.extend(self._numbers.setdefault(word, len(self._numbers)) for word in stems)
        self._lengths.extend(lengths)
        owners = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
        tokens = np.frombuffer(words, np.int32) if words else np.empty(0, np.int32)
        pairs, counts = np.unique(owners * len(self._numbers) + tokens, return_counts=True)
        owner, word = np.divmod(pairs, max(1, len(self._numbers)))
        return np.stack([owner + start, word, counts]).astype(np.int32)

    def _place_scores(self, parts: Iterable[Path], frequency: NDArray[np.int64]) -> None:
        import numpy as np

        lengths = np.frombuffer(self._lengths, np.int64) if self._lengths else _no_numbers()
        mean = lengths.mean() if len(lengths) else 1.0
        k1, b = self._index.k1, self._index.b
        idf = np.array(
            [math.log(1 + (len(lengths) - df + 0.5) / (df + 0.5)) for df in frequency.tolist()], np.float32
        )
        free = self._ends[:-1].copy()
        for path in parts:
            documents, words, counts = np.load(path)
            order = np.argsort(words, kind="stable")
            documents, words, counts = documents[order], words[order], counts[order].astype(np.float32)
            places = free[words] + np.arange(len(words)) - np.searchsorted(words, words)
            weights = counts / (k1 * (1 - b + b * lengths[documents] / mean) + counts)
            self._scores[places] = idf[words] * weights
            self._documents[places] = documents
            free += np.bincount(words, minlength=len(free))
            path.unlink()

    def get_scores(self, stems: Sequence[str]) -> NDArray[np.float32]:
        """Return the score of every passage for the words of a query."""
        import numpy as np

        scores = np.zeros(len(self._lengths), np.float32)
        for word in stems:
            number = self._numbers.get(word)
            if number is not None:
                inside = slice(self._ends[number], self._ends[number + 1])
                scores[self._documents[inside]] += self._scores[inside]
        return scores


def _hash_key(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _no_numbers() -> NDArray[np.int64]:
    import numpy as np

    return np.empty(0, np.int64)


def _create(path: Path, kind: type[np.generic], count: int) -> NDArray[Any]:
    """Create a memory-mapped array. One of no numbers cannot be mapped."""
    import numpy as np

    return np.memmap(path, kind, mode="w+", shape=(count,)) if count else np.empty(0, kind)


def _chunks(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    remaining = iter(passages)
    while chunk := list(islice(remaining, INDEXED_AT_ONCE)):
        yield chunk
