"""The judge without a model: evidence is the sentence that holds most of the query's words.

A sentence is evidence when it holds at least `THRESHOLD` of the query's content words (stemmed lightly).
Spans are ranked by that share, then by how few other words they have. It sees words, not answers: on hard
negatives of a good retriever it is hardly better than chance (`benchmarks/relabel_quality.py` says how
much), which is why it is a floor to beat and the default only where no model is configured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from schemas.manifest import StageCost
from tasks.formats.vocabulary import read_lexicon
from tasks.relabelling.judge import Evidence, EvidenceQuestion, Ranking, RankingQuestion

THRESHOLD = 0.8
"""Share of the query's content words. .8 and 1.0 are the same for queries of up to four such words."""

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_WORD = re.compile(r"[^\W_]+")
_ENDINGS = ("ies", "ing", "ed", "es", "s", "ly")


class LexicalJudge:
    """Word overlap as evidence; see the module."""

    name = "lexical"

    def __init__(self, function_words: frozenset[str], threshold: float = THRESHOLD) -> None:
        self.function_words = function_words
        self.threshold = threshold

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]:
        """The best sentence of each passage; an abstention where the query has no content words."""
        return [self._best_sentence(question) for question in questions]

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        """Spans by strength; equally strong spans share a place."""
        return [rank_by_strength(question) for question in questions]

    def costs(self) -> tuple[StageCost, ...]:
        """Nothing: there is no model."""
        return ()

    def _best_sentence(self, question: EvidenceQuestion) -> Evidence:
        wanted = frozenset(stem(w) for w in words(question.query) if w not in self.function_words)
        if not wanted:
            return Evidence(None, abstention="query_without_content_words")
        sentences = split_sentences(question.passage.text)
        if not sentences:
            return Evidence(None)
        best = max(sentences, key=lambda sentence: self._strength(wanted, sentence))
        share = self._strength(wanted, best)
        return Evidence(best, strength=share) if share >= self.threshold else Evidence(None)

    def _strength(self, wanted: frozenset[str], sentence: str) -> float:
        """Share of the wanted words that it holds, plus less than .01 for brevity."""
        held = [stem(word) for word in words(sentence)]
        return len(wanted & set(held)) / len(wanted) + 0.01 / (2 + len(held))


def rank_by_strength(question: RankingQuestion) -> Ranking:
    """Places by falling strength; equal strengths tie."""
    strengths = [span.strength for span in question.spans]
    return Ranking(tuple(sum(other > strength for other in strengths) for strength in strengths))


def read_function_words(data_dir: Path) -> frozenset[str]:
    """Every word of data/lexicons/function_words.yaml."""
    lexicon = read_lexicon(data_dir, "function_words")
    return frozenset(word for words in lexicon.lists for word in words.words)


def split_sentences(text: str) -> list[str]:
    """Sentences, verbatim, in order."""
    return [part for part in (p.strip() for p in _SENTENCE_END.split(text)) if part]


def words(text: str) -> list[str]:
    """Lower-cased words and numbers."""
    return _WORD.findall(text.lower())


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Cut one common English ending, when three letters stay."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
