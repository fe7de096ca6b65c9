"""Patterns over text: wrong decoding, personal data, open slots."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.faults import has_unfilled_slot, holds_personal_data, is_garbled


@pytest.mark.parametrize(
    "text",
    [
        "write to bob.x@example.co.uk now",
        "see https://a.example",
        "www.example.com",
        "+49 170 1234567",
        "+1 (415) 555-2671",
        "call 415-555-2671.",
        "(415) 555-2671",
        "030 1234567",
    ],
)
def test_personal_data_is_seen(text: str) -> None:
    assert holds_personal_data(pa.array([text])).to_pylist() == [True]


@pytest.mark.parametrize(
    "text",
    [
        "in 2024 I paid 1,200.50",
        "from 2019-2024, at 10:30 on 12.05.2024 or 2023-10-11",
        "#42, 3/4, a@b, score 100-200 300, ISO 9001-2015, order 123456789",
        "24 000 000 people, 1.000.000.000 stars",
        "between 1990 - 2000 - 2010, +3 or +10 2 points",
    ],
)
def test_numbers_of_other_kinds_are_not_personal_data(text: str) -> None:
    assert holds_personal_data(pa.array([text])).to_pylist() == [False]


@settings(deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=0xA0, max_codepoint=0x24F, categories=["L"]), min_size=1))
def test_letters_read_as_latin_1_are_garbled_and_as_utf_8_are_not(letters: str) -> None:
    plain = f"a {letters} b"
    garbled = plain.encode().decode("latin-1")
    accented = any(0xC0 <= ord(c) <= 0xFF for c in letters)
    assert is_garbled(pa.array([garbled])).to_pylist() == [True] or not accented


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("aeéèüößñÑçÂãÃœ “”‘’–—…°£€«»\n\t日本п"), min_size=1, max_size=12))
def test_text_that_was_never_decoded_wrongly_is_seldom_called_garbled(text: str) -> None:
    spaced = " ".join(text)
    assert is_garbled(pa.array([spaced])).to_pylist() == [False]


@pytest.mark.parametrize("text", ["a\ufffdb", "\ufeffx", "a\x00b", "a\x07", "donâ€™t", "ðŸ˜€", "Ð¡Ð¾", "Â£5"])
def test_signs_of_wrong_decoding_are_seen(text: str) -> None:
    assert is_garbled(pa.array([text])).to_pylist() == [True]


def test_open_slots_and_masks_are_seen_and_other_braces_are_not() -> None:
    texts = ["a {{x/y}}", "{noun} a", "left }}", "a □ b", "{ 'a': 1 }", "{} ok", "x_y", None]
    assert has_unfilled_slot(pa.array(texts)).to_pylist() == [True] * 4 + [False] * 3 + [None]
