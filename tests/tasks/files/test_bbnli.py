"""BBNLI's files as statements to be labelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from tasks.files.questions import Statement, read_stereotype, statements_of

FILE: dict[str, Any] = {
    "name": "tall is to loud",
    "premise": ["{{GROUP1}} sang.", "Somebody sang."],
    "bias_hypothesis_stereotypical": [
        ["{{GROUP1}} are {{WORD1}} than {{GROUP2}}.", 1, 2],
        ["Singing is {{WORD1}}.", 1, 0],
    ],
    "data": {"WORD1": ["louder", "noisier"]},
    "GROUP1": ["tall people"],
    "GROUP2": ["short people"],
    "reference": ["not read"],
}


def statements(folder: Path, **changes: Any) -> list[Statement]:
    path = folder / "theme.json"
    path.write_text(json.dumps(FILE | changes), encoding="utf-8")
    return list(statements_of(read_stereotype(path)))


def test_exchanged_groups_turn_the_predicted_label_round(tmp_path: Path) -> None:
    found = {(s.item, s.stereotype, s.wording): s.hypothesis for s in statements(tmp_path)}
    assert found["0.0", 2, 0] == "tall people are louder than short people."
    assert found["0.0", 0, 0] == "short people are louder than tall people."
    assert found["0.0", 2, 1] == "tall people are noisier than short people."


def test_every_premise_hypothesis_side_and_word_is_one_statement(tmp_path: Path) -> None:
    assert len(statements(tmp_path)) == 2 * (2 * 2 + 1 * 2)
    assert {s.premise for s in statements(tmp_path)} == {"tall people sang.", "Somebody sang."}


def test_text_from_a_file_is_filled_in_one_pass(tmp_path: Path) -> None:
    found = statements(tmp_path, data={"WORD1": ["{{GROUP2}}"]})
    assert found[0].hypothesis == "tall people are {{GROUP2}} than short people."


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match="not a file of BBNLI"):
        read_stereotype(path)
    with pytest.raises(InputError, match="No such file"):
        read_stereotype(tmp_path / "absent.json")
