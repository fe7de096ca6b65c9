"""Near-duplicates are found: all of them if every pair can be verified, nearly all otherwise."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.near_duplicates import search as near_duplicates
from tasks.near_duplicates.parts import TextFiles
from tasks.near_duplicates.search import GreedySelection, Matches, select_distinct, select_greedily
from tasks.text.similarity import ratio
from tests.material.similar_texts import families, framed_texts, matching_pairs, similar_texts, vocabulary


def thinned(
    texts: list[str], threshold: float = 90.0, fixed: int = 0, guards: list[int] | None = None
) -> GreedySelection:
    numbers = np.zeros(len(texts), np.int64) if guards is None else np.array(guards)
    with TemporaryDirectory() as folder:
        files = TextFiles(Path(folder))
        files.write(texts)
        return select_distinct(files, numbers, threshold=threshold, fixed=fixed)


def by_brute_force(texts: list[str], threshold: float) -> list[bool]:
    pairs = sorted(matching_pairs(texts, threshold))
    better, worse = np.array(pairs, np.int64).reshape(-1, 2).T
    return select_greedily(len(texts), Matches(better, worse, np.zeros(len(pairs)))).tolist()


@settings(deadline=None)
@given(
    st.lists(st.text("ab c", min_size=1, max_size=14), min_size=1, max_size=12, unique=True),
    st.sampled_from([60.0, 80.0, 90.0, 95.0]),
)
def test_short_texts_are_thinned_as_by_brute_force(texts, threshold):
    assert thinned(texts, threshold).kept.tolist() == by_brute_force(texts, threshold)


@pytest.mark.slow
def test_recall_is_one_against_brute_force_at_ten_thousand():
    texts = list(dict.fromkeys(similar_texts(10_000, seed=1, words=22)[0]))
    result = thinned(texts)
    assert result.kept.tolist() == by_brute_force(texts, 90.0)
    assert (result.matches.similarity >= 90).all()


def test_likely_pairs_are_found_if_not_all_can_be_verified(monkeypatch):
    texts = list(dict.fromkeys(similar_texts(10_000, seed=2)[0]))
    whole = thinned(texts)
    monkeypatch.setattr(near_duplicates, "EXHAUSTIVE_PAIRS", 0)
    banded = thinned(texts)
    missed = len(whole.matches.better) - len(banded.matches.better)
    assert len(whole.matches.better) > 1_500
    assert missed <= len(whole.matches.better) // 1_000


@pytest.mark.parametrize("exhaustive", [near_duplicates.EXHAUSTIVE_PAIRS, 0])
def test_a_large_family_is_thinned_out_by_a_few_of_its_pairs(monkeypatch, exhaustive):
    monkeypatch.setattr(near_duplicates, "EXHAUSTIVE_PAIRS", exhaustive)
    texts, _ = families(3, 1_500)
    result = thinned(texts)
    assert result.pairs_verified < 300_000
    kept = [text for text, stays in zip(texts, result.kept, strict=True) if stays]
    assert len(kept) < 10
    assert not matching_pairs(kept)


def test_texts_of_different_guards_are_never_matched():
    texts, fillers = families(20, 20)
    numbers = {filler: i for i, filler in enumerate(fillers)}
    assert thinned(texts, guards=[numbers[filler] for filler in fillers]).kept.all()


def test_fixed_texts_stay_even_if_they_match_each_other():
    texts = ["the cat sat on the mat today", "the cat sat on the mat today!", "the cat sat on the mat todays"]
    assert thinned(texts, fixed=2).kept.tolist() == [True, True, False]


def test_nothing_to_compare():
    assert thinned([]).kept.tolist() == []
    assert thinned(["one"]).kept.tolist() == [True]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_texts_with_a_shared_frame_are_compared_with_few_others(share):
    texts, planted = framed_texts(3_000, share, seed=3)
    result = thinned(texts)
    assert result.pairs_verified < 150 * len(texts)
    pairs = {pair for pair in planted if ratio(texts[pair[0]], texts[pair[1]]) >= 90}
    assert len(pairs) > 150
    assert not [pair for pair in pairs if result.kept[list(pair)].all()]


def test_texts_made_of_few_words_are_all_compared():
    texts, _ = framed_texts(1_500, 0.6, seed=4, words=8, known=vocabulary(12, 4))
    assert thinned(texts).kept.tolist() == by_brute_force(texts, 90.0)
