"""How alike two texts are, 0 to 100. The only door to rapidfuzz.

`ratio` is the normalised Indel similarity: 100 · (1 - d / (|a| + |b|)), where d counts the characters to
insert and to delete. Texts are compared as they are given: normalise first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def ratio(left: str, right: str) -> float:
    """Normalised Indel similarity of two whole texts."""
    from rapidfuzz import fuzz

    return fuzz.ratio(left, right)


def partial_ratio(left: str, right: str) -> float:
    """`ratio` of the shorter text with the stretch of the longer one that is most like it."""
    from rapidfuzz import fuzz

    return fuzz.partial_ratio(left, right)


def token_set_ratio(left: str, right: str) -> float:
    """`ratio` of the words that the texts share with the words of either, whatever their order."""
    from rapidfuzz import fuzz

    return fuzz.token_set_ratio(left, right)


def changed_words(before: Sequence[str], after: Sequence[str]) -> list[bool]:
    """For every word of `after`: whether it is not one of the longest sequence of words that both share."""
    from rapidfuzz.distance import Indel

    changed = [False] * len(after)
    for step in Indel.opcodes(before, after):
        if step.tag == "insert":
            changed[step.dest_start : step.dest_end] = [True] * (step.dest_end - step.dest_start)
    return changed


def paired_ratios(
    left: Sequence[str], right: Sequence[str], *, cutoff: float = 0.0, workers: int = 1
) -> NDArray[np.float64]:
    """`ratio` of left[i] with right[i], shape (n,); 0 where it is below `cutoff`."""
    from rapidfuzz import fuzz, process

    return np.asarray(
        process.cpdist(left, right, scorer=fuzz.ratio, score_cutoff=cutoff, dtype=np.float64, workers=workers)
    )


def ratio_matrix(left: Sequence[str], right: Sequence[str], *, cutoff: float = 0.0) -> NDArray[np.float64]:
    """`ratio` of every left text with every right one, shape (len(left), len(right)); 0 below `cutoff`."""
    from rapidfuzz import fuzz, process

    return np.asarray(
        process.cdist(left, right, scorer=fuzz.ratio, score_cutoff=cutoff, dtype=np.float64, workers=1)
    )
