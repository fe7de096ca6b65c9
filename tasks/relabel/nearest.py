"""Find the most similar questions of the pool.

Each distinct text is compared once. Up to `EXHAUSTIVE_PAIRS`, all pairs are compared. Beyond that, the words
that two texts share give an estimate of their token-set ratio, and the texts with the highest estimates are
compared. Neighbours that share words with the question are found, and those that only have letters in common
may be missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.question import Question
from tasks.text.similarity import token_set_ratios
from tasks.text.slots import split_at_slots

EXHAUSTIVE_PAIRS = 5_000_000
"""Maximum number of pairs of distinct texts of one attribute and family that are all compared."""
SHORTLIST = 8
"""Texts to compare per neighbour."""
MIN_SHORTLIST = 512
ROWS_AT_ONCE = 128
SHARED_BY_CHANCE = 0.5
"""Share of the characters outside the shared words that two texts have in common, in order."""


def nearest_questions(
    questions: Sequence[Question], pool: Iterable[Question], count: int
) -> dict[str, list[Question]]:
    """Return by question id the most similar questions of the pool, best first.

    Only questions of the same attribute and family are compared. Similarity is the token-set ratio outside
    the slots. Ties are sorted by id.
    """
    groups: dict[tuple[str, str], tuple[list[Question], list[Question]]] = defaultdict(lambda: ([], []))
    for question in questions:
        groups[question.attribute, question.family][0].append(question)
    for question in pool:
        groups[question.attribute, question.family][1].append(question)
    found: dict[str, list[Question]] = {question.id: [] for question in questions}
    for asked, alike in groups.values():
        if asked and alike:
            found |= _nearest_in_group(asked, alike, count)
    return found


def text_outside_slots(question: Question) -> str:
    """Return the words of a question that do not vary, in lower case."""
    return " ".join(" ".join(split_at_slots(question.template)[::2]).lower().split())


def _nearest_in_group(
    questions: Sequence[Question], pool: Sequence[Question], count: int
) -> dict[str, list[Question]]:
    by_text: dict[str, list[Question]] = defaultdict(list)
    for question in sorted(pool, key=lambda q: q.id):
        by_text[text_outside_slots(question)].append(question)
    texts = list(by_text)
    queries = {question.id: text_outside_slots(question) for question in questions}
    distinct = list(dict.fromkeys(queries.values()))
    nearest: dict[str, list[Question]] = {}
    size = max(MIN_SHORTLIST, SHORTLIST * count)
    for query, (candidates, ratios) in zip(distinct, _score_candidates(distinct, texts, size), strict=True):
        # No question beyond the best `count` texts can be among the best `count` questions.
        bar = np.partition(ratios, -count)[-count] if len(ratios) > count else -1.0
        scored = [
            (-float(ratio), question.id, question)
            for i, ratio in zip(candidates, ratios, strict=True)
            if ratio >= bar
            for question in by_text[texts[i]][:count]
        ]
        nearest[query] = [q for *_, q in sorted(scored, key=lambda entry: entry[:2])[:count]]
    return {name: nearest[text] for name, text in queries.items()}


def _score_candidates(
    queries: Sequence[str], texts: Sequence[str], size: int
) -> Iterator[tuple[Sequence[int], NDArray[np.float64]]]:
    """Yield for each query the indices of the texts to consider and their token-set ratios."""
    if len(queries) * len(texts) <= EXHAUSTIVE_PAIRS or len(texts) <= size:
        for start in range(0, len(queries), ROWS_AT_ONCE):
            for ratios in token_set_ratios(queries[start : start + ROWS_AT_ONCE], texts):
                yield range(len(texts)), ratios
        return
    shared = _SharedCharacters(texts)
    for start in range(0, len(queries), ROWS_AT_ONCE):
        block = queries[start : start + ROWS_AT_ONCE]
        estimates = _estimate_ratios(*shared.count(block), shared.totals)
        best = np.argpartition(-estimates, size - 1, axis=1)[:, :size].tolist()
        for query, candidates in zip(block, best, strict=True):
            yield candidates, token_set_ratios([query], [texts[i] for i in candidates])[0]


def _estimate_ratios(
    shared: NDArray[np.float32], own: NDArray[np.float32], totals: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Estimate token-set ratios, shape (n, texts), from the characters of shared words and of all words."""
    left, right = own[:, None] - shared, totals[None, :] - shared
    whole = 2 * shared + left + right
    by_words = np.where(shared > 0, 2 * shared / np.maximum(2 * shared + np.minimum(left, right), 1), 0)
    in_order = (2 * shared + 2 * SHARED_BY_CHANCE * np.minimum(left, right)) / np.maximum(whole, 1)
    return np.asarray(np.maximum(by_words, in_order), np.float32)


class _SharedCharacters:
    """Counts the characters of the words that texts share, by an index of the words."""

    def __init__(self, texts: Sequence[str]) -> None:
        from scipy.sparse import csr_array

        self.numbers: dict[str, int] = {}
        rows, columns, lengths = [], [], []
        for row, text in enumerate(texts):
            for word in set(text.split()):
                rows.append(row)
                columns.append(self.numbers.setdefault(word, len(self.numbers)))
                lengths.append(len(word) + 1)
        shape = (len(texts), len(self.numbers))
        values = np.array(lengths, np.float32)
        words = csr_array((values, (rows, columns)), shape=shape)
        self.totals = np.asarray(words.sum(axis=1), np.float32)
        by_word = words.T.tocsr()
        frequency = np.diff(by_word.indptr)
        # Words in most texts cost the least as a dense matrix.
        self.frequent = np.flatnonzero(frequency > len(texts) // 8)
        self.dense = by_word[self.frequent].toarray().astype(np.float32)
        self.place = np.full(len(self.numbers), -1, np.int64)
        self.place[self.frequent] = np.arange(len(self.frequent))
        self.by_word = by_word

    def count(self, queries: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the characters shared with every text, shape (queries, texts), and of each query."""
        shared = np.zeros((len(queries), len(self.totals)), np.float32)
        has_frequent = np.zeros((len(queries), len(self.frequent)), np.float32)
        own = np.zeros(len(queries), np.float32)
        index = self.by_word
        for row, query in enumerate(queries):
            for word in set(query.split()):
                own[row] += len(word) + 1
                number = self.numbers.get(word)
                if number is None:
                    continue
                if self.place[number] >= 0:
                    has_frequent[row, self.place[number]] = 1
                else:
                    start, stop = index.indptr[number], index.indptr[number + 1]
                    shared[row, index.indices[start:stop]] += len(word) + 1
        shared += has_frequent @ self.dense
        return shared, own
