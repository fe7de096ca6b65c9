"""Similarity measures of texts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.similarity import paired_ratios, partial_ratio, ratio, ratio_matrix, token_set_ratio

texts = st.lists(st.text("ab c", max_size=12), min_size=1, max_size=6)


def longest_common_subsequence(left: str, right: str) -> int:
    table = np.zeros((len(left) + 1, len(right) + 1), int)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


@given(st.text("abc ", max_size=15), st.text("abc ", max_size=15))
def test_ratio_is_the_normalised_indel_similarity(left, right):
    total = len(left) + len(right)
    expected = 200 * longest_common_subsequence(left, right) / total if total else 100
    assert abs(ratio(left, right) - expected) < 1e-9


@given(texts)
def test_pairs_and_matrix_agree_with_single_ratios(some):
    matrix = ratio_matrix(some, some[::-1])
    assert matrix.shape == (len(some), len(some))
    assert np.allclose(matrix[range(len(some)), range(len(some))], paired_ratios(some, some[::-1]))
    assert np.allclose(matrix[0, 0], ratio(some[0], some[-1]))


def test_scores_below_the_cutoff_are_zero_and_equal_ones_stay():
    assert paired_ratios(["abcde"], ["abcdf"], cutoff=80).tolist() == [80.0]
    assert paired_ratios(["abcde"], ["abcdf"], cutoff=80.1).tolist() == [0.0]


def test_a_sentence_inside_a_passage_and_words_in_another_order():
    assert partial_ratio("the cat sat", "yesterday the cat sat down") == 100
    assert token_set_ratio("cat the sat", "the cat sat down") == 100
