"""Exactly one JSON object is found, or the problem is reported. Nothing is guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.models.structured import find_json_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=5)


@given(
    OBJECTS,
    st.sampled_from(["", "Sure! ", "```json\n"]),
    st.sampled_from(["", "\n```", "\nHope that helps."]),
)
def test_fences_and_prose_around_an_object_do_not_matter(
    value: dict[str, object], before: str, after: str
) -> None:
    assert find_json_object(before + json.dumps(value) + after) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found none"),
        ("I'm sorry, but I can't help with that.", "found none"),
        ("[1, 2]", "found none"),
        ('{"a": 1, "a": 5}', "'a' is given twice"),
        ('{"a": NaN}', "NaN is not a JSON value"),
        ('{"a": 1', "found none"),
        ("{" * 5000, "found none"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        find_json_object(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1} or rather {"a": 2}', {"a": 2}),
        ('<think>{"a": 1}?</think>{"a": 2}', {"a": 2}),
        ('{"a": 1, "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
        ("{'a': 'it isn\\'t', 'b': [1]}", {"a": "it isn't", "b": [1]}),
        ('```json\n{"a": 1, // sure\n "b": 2}\n```', {"a": 1, "b": 2}),
    ],
)
def test_the_last_object_counts_and_slips_of_small_models_are_repaired(
    text: str, value: dict[str, object]
) -> None:
    assert find_json_object(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"why": "it is ru', {"why": "it is ru"}),
        ('{"why": "rude", "score": 4', {"why": "rude"}),
        ('{"why": "rude", "score": 4,', {"why": "rude", "score": 4}),
        ('{"why": "rude", "sco', {"why": "rude"}),
        ('{"why": "rude", "list": [1, 22', {"why": "rude"}),
        ('{"why": "rude", "better": [], "worse": [', {"why": "rude", "better": []}),
        ('{"why": "rude", "list": [{"a": "it', {"why": "rude"}),
        ('{"why": "a \\"quoted\\" wo', {"why": 'a "quoted" wo'}),
        ('Sure: {"a": {"b": 1}', {"a": {"b": 1}}),
    ],
)
def test_a_truncated_object_keeps_its_complete_members(text: str, value: dict[str, object]) -> None:
    assert find_json_object(text, cut_off=True) == value


@given(OBJECTS, st.integers(1, 200))
def test_cutting_never_invents_a_number(value: dict[str, object], length: int) -> None:
    text = json.dumps(value)[:length]
    try:
        found = find_json_object(text, cut_off=True)
    except ValueError:
        return
    for name, part in found.items():
        if isinstance(part, int) and not isinstance(part, bool):
            assert value[name] == part
