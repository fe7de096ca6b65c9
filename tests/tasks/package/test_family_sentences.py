"""The card has a sentence for every family."""

from __future__ import annotations

import yaml

from schemas.recipe import FAMILIES
from tests.conftest import DATA


def test_every_family_has_its_sentence() -> None:
    sentences = yaml.safe_load((DATA / "card_sentences.yaml").read_text(encoding="utf-8"))
    assert set(sentences["families"]) == set(FAMILIES)
