"""Noise: random, repeatable, and as strong as another text's difference."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.families.dialect import add_noise
from tasks.text.similarity import ratio

TEXT = "Ein Floß ist ein einfaches Wasserfahrzeug ohne Rumpf, das aus schwimmenden Materialien besteht."
DIALECT = "Een Flot is een eenfach Woater-Foartjuuch sunner Rump, dät uut swimmende Materioalien bestoant."


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_noise_has_the_distance_of_the_other_text(seed: int) -> None:
    noisy = add_noise(TEXT, DIALECT, seed)
    assert ratio(TEXT, DIALECT) - 4 < ratio(TEXT, noisy) <= ratio(TEXT, DIALECT)


def test_the_same_seed_gives_the_same_noise_and_marks_stay() -> None:
    noisy = add_noise(TEXT, DIALECT, 7)
    assert noisy == add_noise(TEXT, DIALECT, 7) != add_noise(TEXT, DIALECT, 8)
    assert [c for c in noisy if not c.isalpha()] == [c for c in TEXT if not c.isalpha()]


def test_a_text_that_is_like_itself_gets_none() -> None:
    assert add_noise(TEXT, TEXT, 1) == TEXT
    assert add_noise("", DIALECT, 1) == ""
