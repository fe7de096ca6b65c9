"""The index of a corpus in files finds what the index in memory finds."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from schemas.labels import CandidateSet, Passage
from tasks.relabel import corpus_pool
from tasks.relabel.corpus_pool import CorpusPool
from tasks.relabel.mining import PassagePool
from tasks.relabel.scoring import ScoreWindow
from tests.material.similar_texts import vocabulary

WORDS = vocabulary(300, 5)


def passages(count: int, seed: int = 1) -> Iterator[Passage]:
    rng = random.Random(seed)
    for i in range(count):
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 40)))
        yield Passage(id=f"p{i}", text=text)
        if i % 7 == 0:
            yield Passage(id=f"copy{i}", text=text.upper() + ".")
    yield Passage(id="empty", text="  ")
    yield Passage(id="no words", text="!?")


def rows(count: int) -> Iterator[CandidateSet]:
    rng, known = random.Random(2), list(passages(90))
    for i in range(count):
        yield CandidateSet(
            id=f"s{i}",
            query_id=f"q{i}",
            query=" ".join(rng.choices([*WORDS[:50], "unknownword"], k=6)),
            positives=(rng.choice(known),),
            negatives=(rng.choice(known), Passage(id="x", text="not in the corpus")),
        )


@pytest.mark.parametrize("at_once", [1, 13, 20_000])
def test_passages_scores_and_ranks_are_those_of_the_index_in_memory(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(corpus_pool, "INDEXED_AT_ONCE", at_once)
    in_memory, in_files = PassagePool(passages(90)), CorpusPool(passages(90))
    for row in rows(40):
        for window in (ScoreWindow(), ScoreWindow(ranks=(3, 20))):
            assert in_files.nearest(row, 10, window) == in_memory.nearest(row, 10, window)
        scores = in_files._all_scores(row.query), in_memory._all_scores(row.query)
        assert scores[0] is not None
        assert scores[1] is not None
        assert np.array_equal(scores[0], scores[1])
        for passage in (*row.positives, *row.negatives):
            assert in_files.score(row.query, passage) == in_memory.score(row.query, passage)
            assert in_files.rank(row.query, passage) == in_memory.rank(row.query, passage)


def test_corpus_without_words_finds_nothing() -> None:
    row = next(rows(1))
    for texts in ([], [Passage(id="a", text=" ")], [Passage(id="a", text="?!")]):
        pool = CorpusPool(texts)
        assert pool.nearest(row, 3) == []
        assert pool.score(row.query, row.positives[0]) is None
