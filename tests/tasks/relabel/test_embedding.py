"""The sentence encoder as a judge of passages and as a screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.models import ModelSettings
from tasks.models.sentence_encoder import find_encoder
from tasks.relabel.file import relabel_file
from tests.conftest import DATA

pytestmark = pytest.mark.skipif(find_encoder() is None, reason="needs the extra `semantic`")

ROW = {
    "query": "how tall is the eiffel tower",
    "pos": ["The Eiffel Tower is 330 metres tall."],
    "neg": ["With its antennas the Eiffel Tower has a height of 330 m.", "Sourdough bread needs a starter."],
}


def relabel(tmp_path: Path, **options: Any) -> dict[str, Any]:
    source = tmp_path / "train.jsonl"
    source.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    settings = ModelSettings(DATA, tmp_path / "run", tmp_path / "cache.sqlite")
    return relabel_file(source, settings=settings, **options)


def test_the_judge_takes_near_sentences_as_evidence(tmp_path: Path) -> None:
    found = relabel(tmp_path, judges=["embedding"])
    assert found["candidates"] == 2
    assert found["kept"] >= 1
    assert found["abstained"] == 0
    assert found["judged_by"] == ["embedding"]


def test_the_screen_spares_passages_far_from_the_query(tmp_path: Path) -> None:
    found = relabel(tmp_path, judges=["lexical"], screen="embedding:0.5:0")
    assert found["report"]["screen"]["spared"] == 1
