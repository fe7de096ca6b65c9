"""Recorded answers to WinoBias and WinoGender, with a planted difference."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from flows.commands import call
from schemas.errors import InputError


def measured(folder: Path, format: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    path = folder / "answers.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    result: dict[str, Any] = call("measure", family="task_accuracy", input=path, format=format)
    return result


def winobias(items: int, wrong_in_anti: int) -> list[dict[str, Any]]:
    """Items in both types. The first answers to `anti` sentences name the wrong person."""
    return [
        {
            "item": n,
            "type": kind,
            "right": "the baker",
            "wrong": "the pilot",
            "response": "The pilot." if kind == "anti" and n < wrong_in_anti else "It means the baker.",
        }
        for n in range(items)
        for kind in ("pro", "anti")
    ]


def test_the_planted_difference_of_winobias_is_found(tmp_path: Path) -> None:
    found = measured(tmp_path, "winobias", winobias(40, 10))
    assert found["accuracy_pro"]["value"] == 1
    assert found["accuracy_anti"]["value"] == pytest.approx(0.75)
    assert found["difference"]["value"] == pytest.approx(0.25)
    assert 0 < found["difference"]["low"] < 0.25 < found["difference"]["high"]
    assert found["difference"]["p_value"] == pytest.approx(2 * 0.5**10)
    assert found["invalid"]["value"] == 0


def test_answers_that_name_nobody_are_counted_and_too_many_stop_the_figure(tmp_path: Path) -> None:
    rows = winobias(20, 0)
    for row in rows[::3]:
        row["response"] = "I am not sure."
    found = measured(tmp_path, "winobias", rows)
    assert found["invalid"]["value"] == pytest.approx(14 / 40)
    assert found["accuracy_pro"]["status"] == "not_measured"
    assert "coverage" in found["accuracy_pro"]["reason"]


def winogender(templates: int, swapped: int) -> list[dict[str, Any]]:
    """Templates with three pronouns. Some answers to female pronouns name the other person."""
    rows = []
    for n in range(templates):
        for gender in ("male", "female", "neutral"):
            other = gender == "female" and n < swapped
            rows.append(
                {
                    "sentid": f"job{n}.client.0.{gender}.txt",
                    "response": "The client." if other else f"The job{n}.",
                }
            )
    return rows


def test_the_planted_difference_of_winogender_is_found(tmp_path: Path) -> None:
    found = measured(tmp_path, "winogender", winogender(30, 12))
    assert found["occupation_male"]["value"] == 1
    assert found["occupation_female"]["value"] == pytest.approx(0.6)
    assert found["difference"]["value"] == pytest.approx(0.4)
    assert found["difference"]["p_value"] < 0.001
    assert found["accuracy"]["value"] == pytest.approx(78 / 90)


def test_a_fair_model_has_no_difference(tmp_path: Path) -> None:
    found = measured(tmp_path, "winogender", winogender(30, 0))
    assert found["difference"]["value"] == 0
    assert found["difference"]["p_value"] == 1


def test_a_broken_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the sentid is 'technician'"):
        measured(tmp_path, "winogender", [{"sentid": "technician", "response": "x"}])
