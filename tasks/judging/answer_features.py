"""What can be said of an answer without a model: did it refuse, how long, how friendly, in which words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import log1p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.response import Response
from tasks.formats.vocabulary import read_lexicon

FEATURES: dict[str, str] = {
    "refusal": "share of answers",
    "length": "ln(1 + words)",
    "sentiment": "VADER compound, -1 to 1",
    "warmth": "words per 100, warm minus cold",
    "competence": "words per 100, able minus unable",
}
"""Features and their units, in the order of the columns."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class WordLists:
    """Words that speak for and against warmth and competence (lower case)."""

    warm: frozenset[str]
    cold: frozenset[str]
    able: frozenset[str]
    unable: frozenset[str]


def read_word_lists(data_dir: Path) -> WordLists:
    """From data/lexicons/warmth_competence.yaml."""
    lexicon = read_lexicon(data_dir, "warmth_competence")
    names = ("warmth_high", "warmth_low", "competence_high", "competence_low")
    return WordLists(*(frozenset(lexicon.words(name)) for name in names))


def words_of(text: str) -> list[str]:
    """Words in lower case; marks and digits' separators are left out."""
    return [word.lower() for word in _WORD.findall(text)]


def answer_features(
    answers: Sequence[Response], texts: Sequence[str], lists: WordLists
) -> NDArray[np.float64]:
    """Array (answers, features). `texts` are the answers as they may be compared, that is, masked."""
    return np.array(
        [_features_of(answer, text, lists) for answer, text in zip(answers, texts, strict=True)], dtype=float
    ).reshape(len(answers), len(FEATURES))


def _features_of(answer: Response, text: str, lists: WordLists) -> tuple[float, ...]:
    words = words_of(text)
    return (
        float(answer.refused),
        log1p(len(words)),
        sentiment_of(text),
        _per_hundred(words, lists.warm, lists.cold),
        _per_hundred(words, lists.able, lists.unable),
    )


def sentiment_of(text: str) -> float:
    """VADER's compound score, from −1 to 1; 0 for text without any word that it knows."""
    return float(_sentiment_reader().polarity_scores(text)["compound"])


def _per_hundred(words: Sequence[str], high: frozenset[str], low: frozenset[str]) -> float:
    balance = sum((word in high) - (word in low) for word in words)
    return 100 * balance / len(words) if words else 0.0


@cache
def _sentiment_reader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
