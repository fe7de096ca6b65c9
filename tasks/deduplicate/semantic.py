"""Find paraphrases by the cosine similarity of embeddings. All pairs of the kept texts are compared.

This is a coarse screen: the embeddings of "should I lend it" and "should I not lend it" are close. So it is
off by default, runs after the comparison by letters, respects the same guards, and marks its drops as
`semantic_duplicate` with 100 · cosine as the similarity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError
from tasks.models.embeddings import embed_texts
from tasks.models.settings import ModelSettings
from tasks.near_duplicates.parts import Indices, TextFiles, read_array, split_by_cost
from tasks.near_duplicates.search import Matches, MatchSearch
from tasks.run.parts import PartRunner

MAX_TEXTS = 200_000
"""Maximum number of texts. The cost of comparing all pairs is quadratic."""
BLOCK = 512
"""Texts that are compared with all others in one matrix product."""
PAIRS_PER_PART = 500_000_000


@dataclass(frozen=True)
class SemanticOptions:
    """Options of the semantic search, and its factory (`second_search` of `find_duplicates`)."""

    model: str
    threshold: float
    """100 · cosine, in (0, 100]."""
    settings: ModelSettings

    def __call__(
        self, texts: TextFiles, guards: Indices, fixed: int, mutual: bool, run_parts: PartRunner, /
    ) -> MatchSearch:
        """Return a search among these texts."""
        return _SemanticSearch(self, texts, guards, fixed, mutual, run_parts)


class _SemanticSearch:
    def __init__(
        self,
        options: SemanticOptions,
        texts: TextFiles,
        guards: Indices,
        fixed: int,
        mutual: bool,
        run_parts: PartRunner,
    ) -> None:
        self.options, self.texts, self.guards = options, texts, guards
        self.fixed, self.mutual, self.run_parts = fixed, mutual, run_parts
        self.embedded = np.zeros(len(texts), np.bool_)
        self.vectors: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def __call__(self, kept: NDArray[np.bool_]) -> tuple[Matches, bool]:
        numbers = np.flatnonzero(kept)
        if len(numbers) > MAX_TEXTS:
            raise InputError(
                f"the semantic comparison takes at most {MAX_TEXTS:,} texts, but there are {len(numbers):,}",
                hint="turn the semantic comparison off, or split the file",
            )
        self._embed(numbers[~self.embedded[numbers]])
        folder = self.texts.folder
        order = numbers[np.argsort(self.guards[numbers], kind="stable")]
        guards = self.guards[order]
        until = np.searchsorted(guards, guards, side="right")
        np.save(folder / "by-guard.npy", order)
        np.save(folder / "until-guard.npy", until)
        totals = np.cumsum(until - np.arange(len(order)))
        parts = [
            EmbeddingPart(folder, a, b, self.options.threshold, self.fixed, self.mutual)
            for a, b in split_by_cost(totals, PAIRS_PER_PART)
        ]
        list(self.run_parts(compare_embeddings, parts))
        return Matches.concat([Matches.empty(), *(Matches.read(part.output) for part in parts)]), True

    def _embed(self, numbers: Indices) -> None:
        if not len(numbers):
            return
        vectors = embed_texts(self.options.model, self.texts.read(numbers), self.options.settings)
        if not len(self.vectors):
            self.vectors = np.zeros((len(self.texts), vectors.shape[1]), np.float32)
        self.vectors[numbers], self.embedded[numbers] = vectors, True
        np.save(self.texts.folder / "vectors.npy", self.vectors)


@dataclass(frozen=True)
class EmbeddingPart:
    """Texts `start` to `stop` of `by-guard.npy`. Each is compared with the following texts of its guard."""

    folder: Path
    start: int
    stop: int
    threshold: float
    fixed: int
    mutual: bool

    @property
    def output(self) -> Path:
        """File of the matches."""
        return self.folder / f"by-meaning-{self.start:09}.npz"


def compare_embeddings(part: EmbeddingPart) -> None:
    """Write the pairs of a part with a cosine of at least the threshold."""
    order = read_array(part.folder / "by-guard.npy")
    until = read_array(part.folder / "until-guard.npy")
    vectors = read_array(part.folder / "vectors.npy")
    chunks = [Matches.empty()]
    for start in range(part.start, part.stop, BLOCK):
        stop = min(start + BLOCK, part.stop)
        end = int(until[stop - 1])
        left, right = order[start:stop], order[start:end]
        similarity = np.round(100 * (vectors[left] @ vectors[right].T), 2)
        row, column = np.nonzero(similarity >= part.threshold)
        comparable = (column > row) & (column + start < until[start + row]) & (right[column] >= part.fixed)
        comparable &= (left[row] < part.fixed) | part.mutual
        row, column = row[comparable], column[comparable]
        scores = np.minimum(similarity[row, column].astype(np.float64), 100.0)
        chunks.append(Matches(left[row], right[column], scores))
    Matches.concat(chunks).write(part.output)
