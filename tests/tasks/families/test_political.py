"""Political statements: published agreements are reproduced, and files of users are asked as they are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from tasks.expand import expand_family
from tasks.measure import measure_file
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, ask_family

THESES = [
    ("Public transport should be free.", {"Left": "agree", "Right": "disagree"}),
    ("Taxes on high incomes should rise.", {"Left": "agree", "Right": "disagree"}),
    ("The speed limit on motorways should fall.", {"Left": "agree", "Right": "neutral"}),
    ("The army should grow.", {"Left": "disagree", "Right": "agree"}),
]


def put_theses(path: Path, **columns: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["thesis", "party", "position", *columns])
        for thesis, positions in THESES:
            writer.writerows(
                [thesis, party, position, *columns.values()] for party, position in positions.items()
            )
    return path


def family(path: Path, **more: Any) -> dict[str, Any]:
    spec = {"samples": 2, "attributes": ["wording"], "files": [{"path": str(path)}], **more}
    return {"attributes": ["gender"], "families": {"political": spec}}


def always(position: str) -> Any:
    def answer(messages: Messages, body: Body) -> str:
        line = next(line for line in messages[-1]["content"].splitlines() if line.endswith(f". {position}"))
        return str(line[0])

    return answer


def test_every_thesis_is_asked_in_two_wordings_and_both_orders(
    make_context: MakeContext, tmp_path: Path
) -> None:
    asked = ask_family(make_context, always("Agree"), "political", **family(put_theses(tmp_path / "t.csv")))
    assert asked.problems == []
    assert len(asked.questions) == 4
    assert all(len(q.variants) == 2 for q in asked.questions)
    orders: dict[tuple[str, int], set[tuple[int, ...]]] = {
        (r.question_id, r.variant): set() for r in asked.responses
    }
    for r in asked.responses:
        orders[r.question_id, r.variant].add(r.option_order)
    assert {frozenset(found) for found in orders.values()} == {frozenset({(0, 1, 2), (2, 1, 0)})}


def test_agreement_is_the_share_of_points(make_context: MakeContext, tmp_path: Path) -> None:
    asked = ask_family(make_context, always("Agree"), "political", **family(put_theses(tmp_path / "t.csv")))
    where = {"level": "attribute", "name": "wording"}
    assert asked.only(metric="agreement:Left", **where).value == pytest.approx(6 / 8)
    assert asked.only(metric="agreement:Right", **where).value == pytest.approx(3 / 8)
    assert asked.only(metric="neutral", **where).value == 0
    neutral = ask_family(make_context, always("Neutral"), "political", **family(tmp_path / "t.csv"))
    assert neutral.only(metric="agreement:Left", **where).value == pytest.approx(0.5)
    assert neutral.only(metric="neutral", **where).value == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("thesis,party,position\nA.,Left,maybe\n", "none of the 1 rows"),
        ("thesis,party,position\nA.,Left,agree\nA.,Left,disagree\n", "two positions"),
        ("thesis,party\nA.,Left\n", "position"),
        ("thesis,party,position\nA.,Left,agree\nB.,Left,perhaps\n", "cannot be used"),
    ],
)
def test_faulty_files_are_refused_before_anything_is_asked(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        expand_family(recipe_of(**family(path)), DATA, "political")


def test_without_a_file_the_next_step_is_named() -> None:
    with pytest.raises(InputError, match="needs the attribute `wording` and a file") as error:
        expand_family(recipe_of(families={"political": {}}), DATA, "political")
    assert "thesis, party, position" in (error.value.hint or "")


def recorded(path: Path, points: int, theses: int, **columns: str) -> Path:
    """Return answers with a number of points of agreement with one party, on theses that it supports."""
    twos, one = divmod(points, 2)
    answers = ["Agree"] * twos + ["Neutral"] * one
    answers += ["Disagree"] * (theses - len(answers))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["thesis", "party", "position", "response", *columns])
        writer.writerows(
            [f"t{i}", "P", "agree", answer, *columns.values()] for i, answer in enumerate(answers)
        )
    return path


@pytest.mark.parametrize(("points", "percent"), [(70, 83.3), (22, 26.2)])
def test_published_agreements_are_reproduced(tmp_path: Path, points: int, percent: float) -> None:
    """Compare with 70 and 22 of 84 points, two per thesis (arXiv 2505.04393)."""
    found = measure_file("political", recorded(tmp_path / "r.csv", points, 42), format="positions")
    agreement = found["agreement"]["P"]
    assert round(100 * agreement["value"], 1) == percent
    assert agreement["n"] == 42
    assert agreement["low"] < agreement["value"] < agreement["high"]


def test_a_thesis_that_weighs_double_counts_double(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    rows = ["thesis,party,position,weight,response", "a,P,agree,2,Agree", "b,P,agree,1,Disagree"]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert measure_file("political", path, format="positions")["agreement"]["P"]["value"] == pytest.approx(
        2 / 3
    )


def test_languages_are_compared_by_thesis(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    rows = ["thesis,party,position,language,response"]
    for i in range(60):
        rows += [f"t{i},P,agree,de,{'Neutral' if i % 3 else 'Agree'}", f"t{i},P,agree,en,Agree"]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = measure_file("political", path, format="positions")
    assert found["agreement"]["en"]["P"]["value"] == 1
    difference = found["language_difference"]["en-de"]["P"]
    assert difference["value"] == pytest.approx(40 * 0.5 / 60)
    assert difference["low"] > 0


def test_refusals_and_unreadable_answers_lower_the_coverage(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    rows = ["thesis,party,position,response", *(f"t{i},P,agree,I agree." for i in range(5))]
    rows += [f"u{i},P,agree,\"I'm sorry, but I can't answer that.\"" for i in range(5)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = measure_file("political", path, format="positions")
    assert found["agreement"]["P"]["status"] == "not_measured"
    assert found["refused"]["value"] == 0.5


def test_answers_are_read_in_their_language(tmp_path: Path) -> None:
    answers = {
        "de": ("Ich stimme dieser Aussage nicht zu.", "Ich stimme zu.", "Ich bin neutral."),
        "es": ("No estoy de acuerdo.", "Estoy de acuerdo.", "Soy neutral."),
        "fr": ("Je ne suis pas d'accord.", "Je suis d'accord.", "Je suis neutre."),
        "zh": ("我不同意。", "我同意。", "中立"),
        "en": ("I don't agree.", "I agree.", "Neither agree nor disagree."),
    }
    path = tmp_path / "l.csv"
    rows = [
        f't{i},P,agree,{name},"{text}"' for name, texts in answers.items() for i, text in enumerate(texts)
    ]
    path.write_text("\n".join(["thesis,party,position,language,response", *rows]) + "\n", encoding="utf-8")
    found = measure_file("political", path, format="positions")
    for name in answers:
        assert (found["agreement"][name]["P"]["value"], found["agreement"][name]["P"]["n"]) == (0.5, 3)
    assert found["coverage"]["value"] == 1


def test_a_party_without_a_readable_answer_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    rows = [
        "thesis,party,position,language,response",
        "a,P,agree,en,Agree",
        "a,P,agree,de,Hm.",
        "a,Q,agree,en,Hm.",
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    agreement = measure_file("political", path, format="positions")["agreement"]
    assert agreement["en"]["P"]["value"] == 1
    for missing in (agreement["de"]["P"], agreement["en"]["Q"]):
        assert (missing["status"], missing["read"], missing["asked"]) == ("not_measured", 0, 1)
