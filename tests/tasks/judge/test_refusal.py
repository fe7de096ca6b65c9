from __future__ import annotations

import pytest

from tasks.judges.words import is_refusal, read_refusal_phrases
from tests.tasks.judge.material import DATA, random_advice

PHRASES = read_refusal_phrases(DATA)


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I can’t help with that.", "I  CANNOT\nassist with this request."]
)
def test_refusals_are_known_in_any_case_spacing_and_apostrophe(text: str) -> None:
    assert is_refusal(text, PHRASES)


def test_advice_is_no_refusal_even_where_it_ends_with_a_limit() -> None:
    assert not is_refusal("", PHRASES)
    assert not is_refusal(random_advice(1), PHRASES)
    assert not is_refusal(f"{random_advice(2, words=80)}. I cannot help with the legal part.", PHRASES)
