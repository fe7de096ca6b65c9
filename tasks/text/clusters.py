"""Which of many texts stay, when some pairs of them are the same thing said twice.

Texts are numbered best first. A text stays unless a better one that stays is its match: no two that stay
match each other, and each that goes has a match that stays. (Chains do not pull in what is not alike: of
A ~ B ~ C with A and C unlike, B goes and both A and C stay.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """Pairs of texts that match: `better` < `worse`, and how similar they are (0 to 100). No pair stands
    twice."""

    better: Indices
    worse: Indices
    similarity: NDArray[np.float64]

    @staticmethod
    def none() -> Matches:
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def __len__(self) -> int:
        return len(self.better)

    @staticmethod
    def all_of(parts: Sequence[Matches]) -> Matches:
        """Several sets of matches that share no pair as one."""
        return Matches(
            np.concatenate([part.better for part in parts]),
            np.concatenate([part.worse for part in parts]),
            np.concatenate([part.similarity for part in parts]),
        )

    def where(self, some: NDArray[Any] | slice) -> Matches:
        """Some of the pairs."""
        return Matches(self.better[some], self.worse[some], self.similarity[some])

    def write(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @staticmethod
    def read(path: Path) -> Matches:
        with np.load(path) as arrays:
            return Matches(**arrays)


def keep_best(count: int, matches: Matches) -> NDArray[np.bool_]:
    """Which of `count` texts stay."""
    stays = [True] * count
    order = np.argsort(matches.worse, kind="stable")
    for better, worse in zip(matches.better[order].tolist(), matches.worse[order].tolist(), strict=True):
        if stays[better]:
            stays[worse] = False
    return np.array(stays, dtype=np.bool_)


def lost_to(stays: NDArray[np.bool_], matches: Matches, *, fixed: int = 0) -> Matches:
    """For each text that goes, its match that stays: one of the first `fixed` texts if there is any, of
    these the most similar, of equally similar ones the best."""
    valid = np.flatnonzero(stays[matches.better] & ~stays[matches.worse])
    better, worse, similarity = matches.better[valid], matches.worse[valid], matches.similarity[valid]
    order = np.lexsort((better, -similarity, better >= fixed, worse))
    _, first = np.unique(worse[order], return_index=True)
    chosen = order[first]
    return Matches(better[chosen], worse[chosen], similarity[chosen])
