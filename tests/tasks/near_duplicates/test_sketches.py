"""Sketches never refuse a pair that matches, and likely pairs share band keys."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.near_duplicates.sketches import band_keys, fit_scale, sketch_texts
from tasks.text.similarity import paired_ratios

some_texts = st.lists(
    st.one_of(st.text("ab ", max_size=30), st.text(max_size=12), st.sampled_from(["", "\0\0", "\ud800"])),
    min_size=2,
    max_size=12,
)


@given(some_texts, some_texts, st.sampled_from([50.0, 80.0, 90.0, 95.0, 100.0]))
def test_no_pair_above_the_threshold_is_missed_on_any_scale(texts, others, threshold):
    left, right = (side.ravel() for side in np.meshgrid(range(len(texts)), range(len(texts))))
    scores = paired_ratios([texts[i] for i in left], [texts[i] for i in right])
    allowed = sketch_texts(texts, fit_scale(others)).may_match(left, right, 1 - threshold / 100)
    assert not ((scores >= threshold) & ~allowed).any()


def test_unlike_texts_are_refused():
    texts = [
        "the quick brown fox jumps over the lazy dog",
        "my cat sat on a mat and slept till half past ten",
    ]
    assert not sketch_texts(texts, fit_scale(texts)).may_match(np.array([0]), np.array([1]), 0.1).any()


@given(st.lists(st.text("abcde ", min_size=1, max_size=40), min_size=1, max_size=6))
def test_a_key_depends_on_text_and_guard_only(texts):
    guards = np.arange(len(texts)) % 2
    keys = band_keys(texts, guards, bands=8, rows=3)
    backwards = band_keys(texts[::-1], guards[::-1], bands=8, rows=3)
    assert keys.shape == (8, len(texts))
    assert (keys[:, ::-1] == backwards).all()
    assert (band_keys(texts, guards + 1, bands=8, rows=3) != keys).any()


def test_texts_that_share_most_of_their_letters_share_a_band():
    text = "a neighbour asks me to water the plants while she is away for two weeks in August"
    keys = band_keys(
        [text, text.replace("two", "three"), text[::-1]], np.zeros(3, np.int64), bands=64, rows=3
    )
    assert (keys[:, 0] == keys[:, 1]).any()
    assert not (keys[:, 0] == keys[:, 2]).any()
