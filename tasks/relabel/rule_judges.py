"""Find evidence without a model: `lexical` and `embedding` for passages, `sentences` for pool questions.

`lexical` takes a sentence as evidence if it contains at least `THRESHOLD` of the query's content words,
compared by their stems. It matches words, not answers. On hard negatives of a good retriever it is hardly
better than chance (`benchmarks/relabel_quality.py`). It is a baseline, and the default only if no model is
configured.

`embedding` takes the sentence with the largest cosine to the query, if it is at least
`SIMILAR`. The vectors are those of the packaged sentence encoder.

`sentences` takes a sentence of an answer as evidence of unequal treatment if, with the words that name the
group masked, every other answer to the same version by the same model has a near match, and no answer to some
other version has one. A sentence that a model writes with the same probability p for every version passes
with probability p^k (1 − p)^k ≤ 4^−k for k answers per version: 1.6 % for 3, .4 % for 4. It detects that the
advice differs, not that the difference does harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import orjson

from schemas.release import StageCost
from tasks.files.vocabulary import read_lexicon
from tasks.judges.relevance import Evidence, EvidenceQuestion, Ranking, RankingQuestion
from tasks.judges.words import mask_words
from tasks.models.sentence_encoder import DECIMALS, Floats, encode_sentences
from tasks.text.similarity import ratio

THRESHOLD = 0.8
"""Share of the query's content words. For queries of up to four such words, .8 equals 1.0."""
SIMILAR = 0.5
"""Cosine of a query and a sentence that counts as evidence."""
NEAR_MATCH = 70.0
"""Minimum rapidfuzz ratio (0 to 100) of two equivalent masked sentences."""
MAX_SPANS = 3

Sentences = list[tuple[str, str]]
"""Pairs (verbatim sentence, masked and lower-cased sentence)."""

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？｡])[」』”’）]*\s*|\n+")
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]+)"
)
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese kana and Chinese characters."""
_FUNCTION_CHARACTERS = frozenset(
    "的了是在和与及或也就都而但谁吗呢吧啊哪何什么怎为之其于被把由从到对對はをにがでともかへのや"
)
"""Bigrams with one of these characters carry as little information as function words."""


class LexicalJudge:
    """Find the words of a query in passages."""

    name = "lexical"

    def __init__(self, function_words: frozenset[str], threshold: float = THRESHOLD) -> None:
        self.function_words = function_words
        self.threshold = threshold

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]:
        """Return the best sentence of each passage. Queries without content words are abstentions."""
        return [self._best_sentence(question) for question in questions]

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        """Rank spans by strength. Equally strong spans tie."""
        return [rank_by_strength(question) for question in questions]

    def costs(self) -> tuple[StageCost, ...]:
        """Return nothing, because no model is called."""
        return ()

    def _best_sentence(self, question: EvidenceQuestion) -> Evidence:
        wanted = frozenset(
            stem(w)
            for w in split_words(question.query)
            if w not in self.function_words and not _FUNCTION_CHARACTERS & set(w)
        )
        if not wanted:
            return Evidence(None, abstention="query_without_content_words")
        sentences = split_sentences(question.passage.text)
        if not sentences:
            return Evidence(None)
        best = max(sentences, key=lambda sentence: self._strength(wanted, sentence))
        strength = self._strength(wanted, best)
        return Evidence(best, strength=strength) if strength >= self.threshold else Evidence(None)

    def _strength(self, wanted: frozenset[str], sentence: str) -> float:
        """Return the share of wanted words in a sentence, plus less than .01 for brevity."""
        stems = [stem(word) for word in split_words(sentence)]
        return len(wanted & set(stems)) / len(wanted) + 0.01 / (2 + len(stems))


class EmbeddingJudge:
    """Find the sentence of a passage that is nearest in meaning to the query."""

    name = "embedding"

    def __init__(self, threshold: float = SIMILAR) -> None:
        self.threshold = threshold

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]:
        """Return the sentence of each passage with the largest cosine, if it reaches the threshold."""
        sentences = [split_sentences(question.passage.text) for question in questions]
        texts = [q.query for q in questions] + [sentence for found in sentences for sentence in found]
        vectors = dict(zip(texts, encode_sentences(texts), strict=True)) if texts else {}
        return [
            self._nearest(vectors[question.query], [(s, vectors[s]) for s in found])
            for question, found in zip(questions, sentences, strict=True)
        ]

    def _nearest(self, query: Floats, sentences: Sequence[tuple[str, Floats]]) -> Evidence:
        cosines = [(round(float(query @ vector), DECIMALS), text) for text, vector in sentences]
        strength, best = max(cosines, key=lambda pair: pair[0], default=(0.0, ""))
        return Evidence(best, strength=strength) if best and strength >= self.threshold else Evidence(None)

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        """Rank spans by strength. Equally strong spans tie."""
        return [rank_by_strength(question) for question in questions]

    def costs(self) -> tuple[StageCost, ...]:
        """Return nothing, because no model is called."""
        return ()


class SentenceJudge:
    """Find sentences that only one version of a question gets."""

    name = "sentences"

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]:
        """Return up to three sentences per question, the clearest first."""
        return [find_sentence_evidence(question) for question in questions]

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        """Rank spans by strength. Equally strong spans tie."""
        return [rank_by_strength(question) for question in questions]

    def costs(self) -> tuple[StageCost, ...]:
        """Return nothing, because no model is called."""
        return ()


def find_sentence_evidence(question: EvidenceQuestion) -> Evidence:
    """Return the evidence of unequal treatment in the answers to one question.

    Its strength is the widest gap of similarity, 0 to 1. Questions with one answer per version are
    abstentions.
    """
    extra = orjson.loads(question.passage.extra)
    models = [
        [[_mask_sentences(text, extra["hidden"]) for text in texts] for texts in versions]
        for versions in extra["answers"]
    ]
    if not any(len(texts) > 1 for versions in models for texts in versions):
        return Evidence(None, abstention="too_few_samples")
    gaps = sorted(
        (pair for versions in models for pair in _specific_sentences(versions)),
        key=lambda pair: (-pair[0], pair[1]),
    )
    spans = list(dict.fromkeys(sentence for _, sentence in gaps))[:MAX_SPANS]
    return Evidence("\n".join(spans), strength=gaps[0][0]) if gaps else Evidence(None)


def _mask_sentences(text: str, hidden: Sequence[str]) -> Sentences:
    return [(s, mask_words(s, tuple(hidden)).lower()) for s in split_sentences(text)]


def _specific_sentences(versions: Sequence[Sequence[Sentences]]) -> Iterator[tuple[float, str]]:
    """Yield (gap, sentence) for each sentence that one version always and some other version never gets."""
    for version, answers in enumerate(versions):
        if len(answers) < 2:
            continue
        others = [texts for other, texts in enumerate(versions) if other != version and texts]
        for i, answer in enumerate(answers):
            for sentence, masked in answer:
                always = min(_best_match(masked, other) for j, other in enumerate(answers) if j != i)
                if always < NEAR_MATCH:
                    continue
                elsewhere = min(max(_best_match(masked, text) for text in texts) for texts in others)
                if elsewhere < NEAR_MATCH:
                    yield (always - elsewhere) / 100, sentence


def _best_match(sentence: str, answer: Sentences) -> float:
    return max((ratio(sentence, other) for _, other in answer), default=0.0)


def rank_by_strength(question: RankingQuestion) -> Ranking:
    """Rank spans by falling strength. Equal strengths tie."""
    strengths = [span.strength for span in question.spans]
    return Ranking(tuple(sum(other > strength for other in strengths) for strength in strengths))


def read_function_words(data_dir: Path) -> frozenset[str]:
    """Read all words of data/lexicons/function_words.yaml."""
    lexicon = read_lexicon(data_dir, "function_words")
    return frozenset(word for words in lexicon.lists for word in words.words)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, verbatim and in order."""
    return [part for part in (p.strip() for p in _SENTENCE_END.split(text)) if part]


def split_words(text: str) -> list[str]:
    """Return the words and numbers of a text in lower case.

    Scripts without spaces between words are split into overlapping pairs of characters.
    """
    words = _WORD.findall(text.lower())
    if text.isascii():
        return words
    return [part for word in words for run in _UNSPACED.split(word) for part in _parts_of_run(run)]


def _parts_of_run(run: str) -> list[str]:
    if not run:
        return []
    if not _UNSPACED.match(run) or len(run) == 1:
        return [run]
    return [run[i : i + 2] for i in range(len(run) - 1)]


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Return the stem of an English word in lower case, by the Snowball (Porter 2) algorithm.

    References:
        Porter (2001), https://snowballstem.org.
    """
    from Stemmer import Stemmer

    # One stemmer per call (0.4 µs): stemmers must not be shared by threads.
    return str(Stemmer("english", 0).stemWord(word))
