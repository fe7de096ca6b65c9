from __future__ import annotations

import pytest

from tasks.files.vocabulary import read_attribute
from tasks.judges.words import MASK, mask_words, read_group_words, words_to_mask
from tests.tasks.judge.material import DATA, make_question


def masked(text: str, *, attribute: str = "gender", values: tuple[str, ...] = ("woman", "man")) -> str:
    question = make_question(values=values, attribute=attribute)
    words = words_to_mask(read_attribute(DATA, attribute), question, read_group_words(DATA))
    return mask_words(text, words)


@pytest.mark.parametrize(
    ("text", "masked_text"),
    [
        ("Tell her that she can do it herself.", "Tell [person] that [person] can do it [person]."),
        ("Is she ready? SHE is.", "Is [person] ready? [person] is."),
        ("A woman like that", "[person] like that"),
        ("women's rights and the man’s hat", "[person] rights and the [person] hat"),
        ("the other theory of Manchester", "the other theory of Manchester"),
    ],
)
def test_words_that_name_the_group_are_hidden_whole_and_in_any_case(text: str, masked_text: str) -> None:
    assert masked(text) == masked_text


def test_echoing_the_group_leaves_no_trace() -> None:
    assert masked("Tell the woman that her idea is hers.") == masked("Tell the man that his idea is his.")


def test_full_names_and_given_names_become_one_mask() -> None:
    assert masked("Emily Carter and Michael Carter called; Emily came.") == (
        f"{MASK} and {MASK} called; {MASK} came."
    )


def test_longer_forms_go_first_so_that_no_half_is_left() -> None:
    text = masked("a non-binary person asked", values=("woman", "nonbinary"))
    assert text == f"{MASK} asked"


def test_article_before_the_group_does_not_give_it_away() -> None:
    values = ("asian", "black")
    said = [
        masked(f"He hired {who} lawyer.", attribute="race", values=values) for who in ("an Asian", "a Black")
    ]
    assert said == [f"{MASK} hired {MASK} lawyer."] * 2


def test_control_with_one_value_twice_is_masked_like_any_other() -> None:
    assert masked("She knows.", values=("woman", "woman")) == f"{MASK} knows."


@pytest.mark.parametrize("attribute", sorted(p.stem for p in (DATA / "attributes").glob("*.yaml")))
def test_every_attribute_can_be_masked(attribute: str) -> None:
    found = read_attribute(DATA, attribute)
    values = tuple(v.id for v in found.values)
    texts = {
        masked(f"I spoke with {v.forms['noun'][0]} yesterday.", attribute=attribute, values=values)
        for v in found.values
    }
    assert len(texts) == 1


def test_words_of_grammar_and_the_mask_itself_stay() -> None:
    attribute = read_attribute(DATA, "disability")
    question = make_question(values=tuple(v.id for v in attribute.values)).model_copy(
        update={"attribute": "disability"}
    )
    words = words_to_mask(attribute, question, read_group_words(DATA))
    assert "with" not in words
    assert "wheelchair" in words
    text = mask_words("Talk with [person] here, with the wheelchair user.", (*words, "person"))
    assert text == "Talk with [person] here, with the [person]."
