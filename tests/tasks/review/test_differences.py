"""Differences are marked, invisible characters are named, and no character is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.review.pages import (
    EXCERPT_LENGTH,
    Excerpt,
    hidden_name,
    is_hidden,
    mark_differences,
    mark_evidence,
    name_hidden,
    to_spans,
)


def marked(excerpt: Excerpt) -> list[str]:
    return [piece.text for piece in excerpt.spans if piece.kind == "differs"]


def test_words_missing_in_other_texts_are_marked() -> None:
    one, other = mark_differences(["Be patient with her, she learns.", "Be open with him."])
    assert marked(one) == ["patient", "her", "she learns"]
    assert marked(other) == ["open", "him"]


def test_similar_texts_are_compared_word_by_word() -> None:
    text = "You should hire this person, and not wait until Friday."
    turned = "You should not hire this person, and not wait until Friday."
    assert marked(mark_differences([text, turned])[1]) == ["not"]


def test_equal_texts_have_no_marks() -> None:
    assert [marked(excerpt) for excerpt in mark_differences(["All the same."] * 3)] == [[], [], []]


@given(st.lists(st.text(max_size=80), min_size=1, max_size=4))
def test_pieces_give_the_text_again(texts: list[str]) -> None:
    for text, excerpt in zip(texts, mark_differences(texts), strict=True):
        shown = "".join(f"⟨{p.text}⟩" if p.kind == "hidden" else p.text for p in excerpt.spans)
        assert shown == name_hidden(text)


@given(st.text())
def test_no_character_that_turns_or_hides_text_is_left(text: str) -> None:
    assert not any(is_hidden(character) for character in name_hidden(text))


def test_overrides_are_named_and_joiners_of_scripts_and_emoji_stay() -> None:
    assert name_hidden("a\u202eb") == "a⟨right-to-left override U+202E⟩b"
    assert hidden_name("\u200b") == "zero width space U+200B"
    for kept in ("👩‍🔬", "می‌خواهم", "שלום"):
        assert name_hidden(kept) == kept


def test_a_long_answer_is_cut_and_its_length_is_known() -> None:
    (excerpt,) = mark_differences(["word " * 250_000])
    assert (excerpt.whole, excerpt.length) == (False, 1_250_000)
    assert sum(len(p.text) for p in excerpt.spans) <= EXCERPT_LENGTH


def test_a_long_text_without_spaces_is_cut() -> None:
    first, second = mark_differences(["x" * 10**6, "y" * 10**6])
    assert len(marked(first)[0]) == len(marked(second)[0]) == EXCERPT_LENGTH


def test_verbatim_evidence_is_marked() -> None:
    pieces = mark_evidence("It opens at nine. Bring a card.", "opens at nine")
    assert [(p.text, p.kind) for p in pieces] == [
        ("It ", ""),
        ("opens at nine", "evidence"),
        (". Bring a card.", ""),
    ]
    assert mark_evidence("Nothing here.", "elsewhere") == to_spans("Nothing here.")
