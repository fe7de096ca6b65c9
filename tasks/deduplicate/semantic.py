"""Texts that say the same in other words: every two that stay are compared by the cosine of their embeddings.

This is a screen for paraphrases, and a coarse one: "should I lend it" and "should I not lend it" are close
to each other. So it is off unless asked for, it comes after the comparison by letters, it looks at the same
guards, and what it drops says so (`semantic_duplicate`, with 100 · cosine).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError
from tasks.models.embeddings import embed_texts
from tasks.models.names import ModelSettings
from tasks.near_duplicates.pairs import Each, Indices, TextFiles, even_spans, read_array
from tasks.near_duplicates.search import Matches, MatchSearch

MOST_TEXTS = 200_000
"""The comparison is of all pairs: beyond this it takes longer than people wait."""
BLOCK = 512
PAIRS_PER_PART = 500_000_000


@dataclass(frozen=True)
class SemanticOptions:
    """Makes the search; `then` of `find_duplicates`."""

    model: str
    threshold: float
    """100 · cosine, (0, 100]."""
    settings: ModelSettings

    def __call__(
        self, texts: TextFiles, guards: Indices, fixed: int, among: bool, each: Each, /
    ) -> MatchSearch:
        return _MeaningSearch(self, texts, guards, fixed, among, each)


class _MeaningSearch:
    def __init__(
        self, how: SemanticOptions, texts: TextFiles, guards: Indices, fixed: int, among: bool, each: Each
    ) -> None:
        self.how, self.texts, self.guards = how, texts, guards
        self.fixed, self.among, self.each = fixed, among, each
        self.embedded = np.zeros(len(texts), np.bool_)
        self.vectors: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def __call__(self, stays: NDArray[np.bool_]) -> tuple[Matches, bool]:
        stay = np.flatnonzero(stays)
        if len(stay) > MOST_TEXTS:
            raise InputError(
                f"{len(stay):,} texts are too many to compare by meaning: at most {MOST_TEXTS:,}",
                hint="turn the semantic stage off, or split the file",
            )
        self._embed(stay[~self.embedded[stay]])
        folder = self.texts.folder
        order = stay[np.argsort(self.guards[stay], kind="stable")]
        guards = self.guards[order]
        until = np.searchsorted(guards, guards, side="right")
        np.save(folder / "by-guard.npy", order)
        np.save(folder / "until-guard.npy", until)
        totals = np.cumsum(until - np.arange(len(order)))
        parts = [
            EmbeddingSearch(folder, a, b, self.how.threshold, self.fixed, self.among)
            for a, b in even_spans(totals, PAIRS_PER_PART)
        ]
        self.each(compare_embeddings, parts)
        return Matches.all_of([Matches.none(), *(Matches.read(part.found) for part in parts)]), True

    def _embed(self, some: Indices) -> None:
        if not len(some):
            return
        vectors = embed_texts(self.how.model, self.texts.read(some), self.how.settings)
        if not len(self.vectors):
            self.vectors = np.zeros((len(self.texts), vectors.shape[1]), np.float32)
        self.vectors[some], self.embedded[some] = vectors, True
        np.save(self.texts.folder / "vectors.npy", self.vectors)


@dataclass(frozen=True)
class EmbeddingSearch:
    """Texts `start` to `stop` of `by-guard.npy`, each to be compared with those of its guard behind it."""

    folder: Path
    start: int
    stop: int
    threshold: float
    fixed: int
    among: bool

    @property
    def found(self) -> Path:
        return self.folder / f"by-meaning-{self.start:09}.npz"


def compare_embeddings(part: EmbeddingSearch) -> None:
    """Write the pairs whose cosine is high enough."""
    order = read_array(part.folder / "by-guard.npy")
    until = read_array(part.folder / "until-guard.npy")
    vectors = read_array(part.folder / "vectors.npy")
    found = [Matches.none()]
    for start in range(part.start, part.stop, BLOCK):
        stop = min(start + BLOCK, part.stop)
        end = int(until[stop - 1])
        left, right = order[start:stop], order[start:end]
        similarity = np.round(100 * (vectors[left] @ vectors[right].T), 2)
        row, column = np.nonzero(similarity >= part.threshold)
        wanted = (column > row) & (column + start < until[start + row]) & (right[column] >= part.fixed)
        wanted &= (left[row] < part.fixed) | part.among
        row, column = row[wanted], column[wanted]
        scores = np.minimum(similarity[row, column].astype(np.float64), 100.0)
        found.append(Matches(left[row], right[column], scores))
    Matches.all_of(found).write(part.found)
