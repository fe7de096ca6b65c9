"""A judge of masked answers cannot distinguish the groups."""

from __future__ import annotations

import pytest

from tasks.files.vocabulary import read_attributes
from tasks.judges.words import read_group_words
from tests.conftest import DATA
from tests.material.echoes import ECHOES, leak


@pytest.mark.parametrize("attribute_id", sorted(ECHOES))
def test_masked_answers_of_an_echoing_target_do_not_tell_the_value(attribute_id: str) -> None:
    (attribute,) = read_attributes(DATA, [attribute_id])
    words = read_group_words(DATA)
    assert leak(attribute, words) <= 0.05
    assert leak(attribute, words, masked=False) >= 0.3
