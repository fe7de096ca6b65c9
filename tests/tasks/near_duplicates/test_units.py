"""Units: the best of a cluster stays, whatever the order they come in."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.near_duplicates.units import Deduplication, Unit, find_duplicates

TEXT = "My neighbour asks whether she may borrow the ladder on Saturday morning."


def reasons_by_id(found: Deduplication) -> dict[str, tuple[str, str]]:
    return {d.unit.id: (d.because_of.id, d.reason) for d in found.dropped}


def test_best_unit_is_kept_and_named_by_the_others():
    units = [
        Unit("a", TEXT, order=(2,)),
        Unit("b", TEXT.upper() + "  ", order=(3,)),
        Unit("c", TEXT.replace("Saturday", "Sunday"), order=(1,)),
        Unit("d", "Something else altogether, about trains.", order=(9,)),
    ]
    found = find_duplicates(units)
    assert [u.id for u in found.kept] == ["c", "d"]
    assert reasons_by_id(found) == {"a": ("c", "near_duplicate"), "b": ("c", "near_duplicate")}
    assert found.duplicate_ratio == 0.5
    assert [[u.id for u in cluster] for cluster in found.clusters] == [["c", "a", "b"]]
    assert 90 <= found.least_similar(1)[0].similarity < 100
    assert found.pairs_verified == 1


def test_texts_that_differ_in_case_quotes_and_space_are_the_same():
    found = find_duplicates([Unit("a", "“It’s  late”"), Unit("b", '"it\'s late"')])
    assert reasons_by_id(found) == {"b": ("a", "exact_duplicate")}
    assert found.dropped[0].similarity == 100
    assert found.pairs_verified == 0


def test_units_of_different_guards_never_merge():
    assert not find_duplicates([Unit("a", TEXT, guard="man"), Unit("b", TEXT, guard="woman")]).dropped


def test_match_of_an_earlier_text_is_dropped_even_if_it_is_the_best():
    earlier = [Unit("old", TEXT, source="first@1.0.0"), Unit("old2", TEXT, source="first@1.0.0")]
    found = find_duplicates([Unit("new", TEXT + "!", order=(-9,)), Unit("other", "Trains.")], earlier=earlier)
    assert reasons_by_id(found) == {"new": ("old", "overlaps:first@1.0.0")}
    assert [u.id for u in found.kept] == ["other"]


def test_nothing_is_compared_without_earlier_texts_unless_texts_are_compared_mutually():
    units = [Unit("a", TEXT), Unit("b", TEXT.replace("Saturday", "Sunday"))]
    alone = find_duplicates(units, mutual=False)
    assert ([u.id for u in alone.kept], alone.pairs_verified) == (["a", "b"], 0)
    assert find_duplicates(units).pairs_verified == 1


def test_nothing_in_nothing_out():
    found = find_duplicates([])
    assert (found.kept, found.dropped, found.duplicate_ratio) == ((), (), 0)


words = st.sampled_from(["ladder", "saturday", "morning", "neighbour"])


@settings(deadline=None)
@given(st.lists(st.lists(words, min_size=3, max_size=6).map(" ".join), max_size=12), st.randoms())
def test_the_order_of_the_input_does_not_count(texts, rng: random.Random):
    units = [Unit(f"u{i}", text, order=(i % 2,)) for i, text in enumerate(texts)]
    shuffled = rng.sample(units, len(units))
    assert find_duplicates(units, threshold=75) == find_duplicates(shuffled, threshold=75)
    assert len(units) == len(find_duplicates(units).kept) + len(find_duplicates(units).dropped)


def test_units_may_be_compared_with_earlier_ones_alone():
    earlier = [Unit("old", TEXT, source="first@1.0.0")]
    units = [Unit("a", TEXT + "!"), Unit("b", TEXT + "?"), Unit("c", "Trains."), Unit("d", "Trains!")]
    found = find_duplicates(units, earlier=earlier, mutual=False, threshold=80)
    assert reasons_by_id(found) == dict.fromkeys("ab", ("old", "overlaps:first@1.0.0"))


def test_near_misses_are_pairs_that_both_stay():
    moved = TEXT.replace("Saturday morning", "morning Saturday")
    found = find_duplicates([Unit("a", TEXT), Unit("b", moved), Unit("c", TEXT + "!")])
    assert [(m.unit.id, m.other.id) for m in found.near_misses] == [("a", "b")]
    assert 87 <= found.near_misses[0].similarity < 90
