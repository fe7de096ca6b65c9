"""The choice of kept units among matching pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.near_duplicates.search import Matches, assign_winners, select_greedily

edges = st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda pair: pair[0] < pair[1]))


def matches(pairs: dict[tuple[int, int], float]) -> Matches:
    return Matches(
        np.array([a for a, _ in pairs], np.int64),
        np.array([b for _, b in pairs], np.int64),
        np.array(list(pairs.values()), np.float64),
    )


@given(edges)
def test_kept_texts_do_not_match_and_dropped_texts_match_a_kept_one(pairs):
    found = matches(dict.fromkeys(sorted(pairs), 90.0))
    stays = select_greedily(9, found)
    assert not any(stays[a] and stays[b] for a, b in pairs)
    assert all(stays[i] or any(stays[a] for a, b in pairs if b == i) for i in range(9))
    lost = assign_winners(stays, found)
    assert sorted(lost.worse.tolist()) == np.flatnonzero(~stays).tolist()
    assert stays[lost.better].all()


def test_a_chain_does_not_pull_in_dissimilar_units():
    assert select_greedily(3, matches({(0, 1): 92.0, (1, 2): 91.0})).tolist() == [True, False, True]


def test_dropped_text_names_the_most_similar_or_an_earlier_text():
    found = matches({(0, 3): 91.0, (1, 3): 95.0, (2, 3): 95.0})
    stays = select_greedily(4, found)
    assert assign_winners(stays, found).better.tolist() == [1]
    assert assign_winners(stays, found, fixed=1).better.tolist() == [0]
