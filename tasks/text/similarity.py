"""Text similarity from 0 to 100. The only module that imports rapidfuzz.

Texts are compared as they are: normalise them first (`tasks.text.normalize`).

References:
    The normalised Indel similarity is 100 · (1 - d / (|a| + |b|)), with d the number of characters to insert
    and delete: https://rapidfuzz.github.io/RapidFuzz/Usage/distance/Indel.html.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def ratio(left: str, right: str) -> float:
    """Return the normalised Indel similarity of two texts."""
    from rapidfuzz import fuzz

    return fuzz.ratio(left, right)


def partial_ratio(left: str, right: str) -> float:
    """Return the `ratio` of the shorter text and the most similar substring of the longer one."""
    from rapidfuzz import fuzz

    return fuzz.partial_ratio(left, right)


def token_set_ratio(left: str, right: str) -> float:
    """Return the `ratio` of the shared words and the words of each text, regardless of order."""
    from rapidfuzz import fuzz

    return fuzz.token_set_ratio(left, right)


def token_set_ratios(left: Sequence[str], right: Sequence[str]) -> NDArray[np.float64]:
    """Return the `token_set_ratio` of every pair, shape (len(left), len(right))."""
    from rapidfuzz import fuzz, process

    return np.asarray(process.cdist(left, right, scorer=fuzz.token_set_ratio, dtype=np.float64, workers=1))


def changed_words(before: Sequence[str], after: Sequence[str]) -> list[bool]:
    """Return for each word of `after` whether it is outside the longest common subsequence with `before`."""
    from rapidfuzz.distance import Indel

    changed = [False] * len(after)
    for step in Indel.opcodes(before, after):
        if step.tag == "insert":
            changed[step.dest_start : step.dest_end] = [True] * (step.dest_end - step.dest_start)
    return changed


def paired_ratios(
    left: Sequence[str], right: Sequence[str], *, cutoff: float = 0.0, workers: int = 1
) -> NDArray[np.float64]:
    """Return the `ratio` of left[i] and right[i], shape (n,). Values below `cutoff` are 0."""
    from rapidfuzz import fuzz, process

    return np.asarray(
        process.cpdist(left, right, scorer=fuzz.ratio, score_cutoff=cutoff, dtype=np.float64, workers=workers)
    )


def ratio_matrix(left: Sequence[str], right: Sequence[str], *, cutoff: float = 0.0) -> NDArray[np.float64]:
    """Return the `ratio` of every pair, shape (len(left), len(right)). Values below `cutoff` are 0."""
    from rapidfuzz import fuzz, process

    return np.asarray(
        process.cdist(left, right, scorer=fuzz.ratio, score_cutoff=cutoff, dtype=np.float64, workers=1)
    )
