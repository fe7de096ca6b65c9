"""How far texts are apart by the words that they use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.judging.answer_features import words_of

Floats = NDArray[np.float64]


def word_vectors(texts: Sequence[str]) -> Floats:
    """Array (texts, words) of unit length: counts of words, each as 1 + ln. The last column stands for having
    no words at all."""
    vocabulary: dict[str, int] = {}
    rows = [[vocabulary.setdefault(word, len(vocabulary)) for word in words_of(text)] for text in texts]
    counts = np.zeros((len(texts), len(vocabulary) + 1))
    for i, row in enumerate(rows):
        counts[i] = np.bincount(row, minlength=len(vocabulary) + 1) if row else 0
        counts[i, -1] = 0.0 if row else 1.0
    damped = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0.0)
    unit: Floats = damped / np.linalg.norm(damped, axis=1, keepdims=True)
    return unit


def word_distances(texts: Sequence[str]) -> Floats:
    """`1 − cosine` of every pair, in [0, 1]. Texts without words are alike, and 1 from all others."""
    unit = word_vectors(texts)
    first, second = np.triu_indices(len(texts), 1)
    cosines = [float((unit[i] * unit[j]).sum()) for i, j in zip(first, second, strict=True)]
    distances: Floats = np.clip(1 - np.asarray(cosines, dtype=float), 0.0, 1.0)
    return distances
