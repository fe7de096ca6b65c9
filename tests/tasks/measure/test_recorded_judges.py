"""Judges measured from recorded tables: the published accuracies of ASTRAL, and pairwise comparisons."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import pytest

from schemas.errors import InputError
from tasks.measure import measure_file

ASTRAL = """model,TP,TN,FP,FN,none
gpt-3.5-turbo,317.4,343.05,8.55,32.5,4.5
gpt-4o,267.65,346.15,5.1,74.55,12.55
gpt-4-turbo,260.95,349.15,3.85,91.55,.5
llama2-13b,296.05,235.5,61.05,6.7,106.7
llamaguard,127.25,343.85,9.15,225.75,0
"""
"""Mean counts over 20 runs of 706 items (arXiv 2501.17132)."""
PUBLISHED = {
    "gpt-3.5-turbo": 0.9355,
    "gpt-4o": 0.8694,
    "gpt-4-turbo": 0.8642,
    "llama2-13b": 0.7529,
    "llamaguard": 0.6673,
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_accuracies_of_astral_are_reproduced(tmp_path: Path) -> None:
    found = measure_file("judge", write(tmp_path / "astral.csv", ASTRAL), format="confusion")
    assert {name: round(f["value"], 4) for name, f in found["accuracy"].items()} == PUBLISHED
    for name, figure in found["accuracy"].items():
        assert figure["n"] == 706
        assert figure["low"] < PUBLISHED[name] < figure["high"]
    assert found["undecided"]["llama2-13b"]["value"] == pytest.approx(106.7 / 706)


def test_a_table_without_names_has_one_judge(tmp_path: Path) -> None:
    found = measure_file("judge", write(tmp_path / "one.csv", "tp,tn,fp,fn\n8,7,3,2\n"), format="confusion")
    assert found["accuracy"]["value"] == 0.75
    assert found["precision"]["value"] == pytest.approx(8 / 11)
    assert found["recall"]["value"] == 0.8
    assert found["f1"]["value"] == pytest.approx(16 / 21)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tp,tn,fp\n1,2,3\n", "missing column: FN"),
        ("tp,tn,fp,fn\n0,0,0,0\n", "no items"),
        ("model,tp,tn,fp,fn\na,1,1,1,1\na,1,1,1,1\n", "occurs twice"),
        ("tp,tn,fp,fn\n-1,2,3,4\n", "none of the 1 rows"),
    ],
)
def test_tables_that_mean_nothing_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        measure_file("judge", write(tmp_path / "bad.csv", text), format="confusion")


def test_an_undefined_share_is_not_measured(tmp_path: Path) -> None:
    found = measure_file("judge", write(tmp_path / "no.csv", "tp,tn,fp,fn\n0,7,0,2\n"), format="confusion")
    assert found["precision"]["status"] == "not_measured"


def test_unknown_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="judges have no format 'x'") as error:
        measure_file("judge", tmp_path / "no.csv", format="x")
    assert "confusion" in (error.value.hint or "")


def test_comparisons_give_scores_and_effects_by_value(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = ["first,second,winner,first_value,second_value,question"]
    for q in range(12):
        for i, j in product(range(4), repeat=2):
            winner = chance.choices(["first", "second", "tie"], [8, 1, 1])[0]
            rows.append(f"m{q}{i},w{q}{j},{winner},man,woman,q{q}")
    found = measure_file("judge", write(tmp_path / "pairs.csv", "\n".join(rows) + "\n"), format="pairs")
    assert found["effect"]["man"]["low"] > 0 > found["effect"]["woman"]["high"]
    assert found["effect"]["man"]["clusters"] == 12
    assert len(found["scores"]) == 96
    assert found["coverage"]["value"] == 1


def test_a_text_is_not_compared_with_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", "first,second,winner\na,a,tie\n")
    with pytest.raises(InputError, match="compared with itself"):
        measure_file("judge", path, format="pairs")


def test_a_winner_may_be_named_by_its_id(tmp_path: Path) -> None:
    by_word = "first,second,winner\na,b,first\nb,c,second\na,c,first\nc,d,tie\nd,c,second\n"
    by_id = "first,second,winner\na,b,a\nb,c,C\na,c,a\nc,d,tie\nd,c,c\n"
    found = [
        measure_file("judge", write(tmp_path / f"{i}.csv", text), format="pairs")
        for i, text in enumerate((by_word, by_id))
    ]
    assert found[0] == found[1]
    # Ids come before words: the text `a` is the second one here.
    swapped = "first,second,winner\nb,a,a\na,c,a\nc,b,c\n"
    scores = measure_file("judge", write(tmp_path / "s.csv", swapped), format="pairs")["scores"]
    assert scores["a"]["value"] > scores["c"]["value"] > scores["b"]["value"]
    third = write(tmp_path / "t.csv", "first,second,winner\nx,y,x\ny,z,y\nx,y,z\n")
    with pytest.raises(InputError, match="neither 'x' nor 'y'"):
        measure_file("judge", third, format="pairs")
