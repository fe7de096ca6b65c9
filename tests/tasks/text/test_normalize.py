"""Normalisation for comparisons, and the position of a quoted span in the original text."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.normalize import find_span, normalise_for_match, repair_mojibake

DL19 = Path(__file__).parents[4] / "shared" / "data" / "retrieval" / "dl19_pairs.jsonl"


def found(passage: str, span: str) -> str | None:
    place = find_span(passage, span)
    return None if place is None else passage[slice(*place)]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("donâ\x80\x99t", "don't"),
        ("donâ€™t", "don't"),
        ("“Hello”\u00a0 —\n world", '"hello" - world'),
        ("ﬁne cafe\u0301 STRASSE", "fine café straße"),
        ("zero\u200bwidth", "zerowidth"),
        ("Ã©tÃ©", "été"),
    ],
)
def test_equivalent_texts_compare_equal(text, same):
    assert normalise_for_match(text) == normalise_for_match(same)


@pytest.mark.parametrize("text", ["«Le CAFÉ”", "naïve Ångström – déjà vu", "Übergröße", "Москва", "東京"])
def test_text_that_is_not_broken_is_not_repaired(text):
    assert repair_mojibake(text) == text


@given(st.text())
def test_normalising_twice_changes_nothing_in_plain_text(text):
    once = normalise_for_match(text.encode("ascii", "ignore").decode())
    assert normalise_for_match(once) == once


def test_text_that_was_misread_twice_is_repaired_twice():
    twice = "it’s".encode().decode("latin-1").encode().decode("latin-1")
    assert repair_mojibake(twice) == "it’s"
    assert found(f"well, {twice} so", "It's so") == f"{twice} so"


def test_text_made_to_look_broken_without_end_is_repaired_in_little_time():
    assert len(repair_mojibake("Ã" + "\x83" * 100_000)) == 100_000 - 2
    assert find_span("Ã" + "\x83" * 100_000, "nothing") is None


@given(st.text(st.sampled_from("aâÃ€™\x80\x82\x99\xa0 é’\xe0\xf0\xbf")))
def test_any_mixture_of_broken_bytes_keeps_its_offsets(mixture):
    passage = f"start {mixture} end"
    assert found(passage, "START") == "start"
    assert found(passage, "END") == "end"


def test_a_span_is_found_in_spite_of_mojibake_quotes_case_and_line_breaks():
    passage = "He said: “Iâ\x80\x99m  at the CAFÉ”\n\nand left — ﬁrst."
    assert found(passage, "at the CAFÉ") == "at the CAFÉ"
    assert found(passage, '"I\'m at the café" and left - first') == passage[9:-1]
    assert found(passage, "Iâ\x80\x99m") == "Iâ\x80\x99m"
    assert found(passage, "he stayed") is None
    assert found(passage, "  ") is None


@given(st.text(min_size=1), st.integers(0), st.integers(1))
def test_any_stretch_of_a_passage_is_found_as_it_is(passage, start, length):
    start %= len(passage)
    span = passage[start : start + length]
    assert found(passage, span) == (span.strip() or None)


@given(st.text(st.characters(max_codepoint=0x2FF), min_size=1))
def test_a_span_in_other_case_is_found_at_offsets_of_the_original(passage):
    place = find_span("start " + passage + " end", "START")
    assert place == (0, 5)


def test_real_passages_with_mojibake_hold_their_repaired_sentences():
    if not DL19.exists():
        pytest.skip("../shared/data/retrieval is not here")
    broken = 0
    with DL19.open(encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)["text"]
            repaired = repair_mojibake(text)
            if repaired == text:
                continue
            broken += 1
            sentence = repaired.split(". ")[0]
            assert found(text, sentence) is not None, sentence
    assert broken > 0
