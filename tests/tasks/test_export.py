"""Export: spreadsheet-safe tables, harness tasks with their questions, BBQ and CAB items."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from flows.commands import call
from schemas.errors import InputError
from schemas.question import Option, Question
from tasks.expand import expand_family
from tasks.files.questions import COLUMNS
from tests.conftest import DATA, recipe_of
from tests.release_fixtures import package_build
from tests.tasks.release.example import a_response, example_question, small_build

FORMULA = '=HYPERLINK("http://127.0.0.1","open")'
HOSTILE = "<script>alert(1)</script>\n@SUM(A1)"


def export(release: Path, format: str, out: Path) -> dict[str, Any]:
    result: dict[str, Any] = call("export", release=release, format=format, out=out)
    return result


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def an_entailment(number: int = 0) -> Question:
    options = tuple(
        Option(text=text, role=role)
        for text, role in (("Yes", "entailment"), ("Maybe", "neutral"), ("No", "contradiction"))
    )
    topic = f"asked for help {number}. They were on the train"
    return example_question(
        "age", topic=topic, family="entailment", options=options, template_id=f"theme.{number}"
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    statements = [an_entailment(i) for i in range(3)]
    hostile = example_question(topic="wrote a note", fitness=0.3, composition=FORMULA, operator=HOSTILE)
    build = small_build().with_questions(hostile, *statements)
    answers = [a_response(q, v.index, option=1) for q in statements for v in q.variants]
    answers.append(a_response(hostile, text=HOSTILE))
    build = build.__class__(**{**build.__dict__, "responses": (*build.responses, *answers)})
    return package_build(tmp_path_factory.mktemp("export"), build)


def questions_of(release: Path, config: str = "questions") -> list[dict[str, Any]]:
    path = release / "data" / config / "test-00000-of-00001.parquet"
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_a_folder_has_every_table_with_every_row(tmp_path: Path, release: Path, format: str) -> None:
    result = export(release, format, tmp_path / "out")
    counts = {}
    for path in map(Path, result["files"]):
        if format == "csv":
            counts[path.stem] = len(read_csv(path))
        elif format == "jsonl":
            counts[path.stem] = len(path.read_text(encoding="utf-8").splitlines())
        else:
            counts[path.stem] = pq.read_table(path).num_rows
    assert counts == json.loads((release / "manifest.json").read_text())["rows"]
    assert result["left_out"] == 0
    assert result["written"] == counts["questions"] + counts["controls"] + counts["hard_negatives"]


def test_one_file_holds_the_questions_and_names_the_omissions(tmp_path: Path, release: Path) -> None:
    result = export(release, "csv", tmp_path / "questions.csv")
    rows = read_csv(tmp_path / "questions.csv")
    assert [row["id"] for row in rows] == [row["id"] for row in questions_of(release)]
    assert result["written"] == len(rows)
    left = {item["kind"]: item["count"] for item in result["left_out_reasons"]}
    assert left["controls"] == len(questions_of(release, "controls"))
    assert result["left_out"] == sum(left.values())
    assert rows[0].keys() >= {"template", "values", "canary"}


def test_no_cell_is_a_formula_and_numbers_stay_numbers(tmp_path: Path, release: Path) -> None:
    export(release, "csv", tmp_path / "out")
    for path in (tmp_path / "out").glob("*.csv"):
        for row in read_csv(path):
            for name, cell in row.items():
                if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
                    assert float(cell) == float(cell), (path.name, name, cell)
    rows = read_csv(tmp_path / "out" / "questions.csv")
    assert next(r["composition"] for r in rows if r["composition"]) == f"'{FORMULA}"
    texts = [json.loads(line) for line in _lines(release, tmp_path)]
    assert HOSTILE in {row["operator"] for row in texts}


def _lines(release: Path, tmp_path: Path) -> list[str]:
    export(release, "jsonl", tmp_path / "lines")
    return (tmp_path / "lines" / "questions.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("format", ["inspect", "lm-eval"])
def test_harness_tasks_find_their_questions_beside_them(tmp_path: Path, release: Path, format: str) -> None:
    result = export(release, format, tmp_path / "out")
    code = "import paired; print(len(paired.questions_of('decision')))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "out" / "evals", capture_output=True, text=True
    )
    families = Counter(q["family"] for q in [*questions_of(release), *questions_of(release, "controls")])
    assert found.stdout.strip() == str(families["decision"]), found.stderr
    kinds = yaml.safe_load((DATA / "evals" / "families.yaml").read_text(encoding="utf-8"))
    known = {family for family, kind in kinds.items() if format.replace("-", "_") in kind}
    assert result["written"] == sum(n for family, n in families.items() if family in known) > 0
    left = {i["kind"]: i["reason"] for i in result["left_out_reasons"]}
    assert left == {"hard_negatives": "the tasks do not ask them"} | {
        family: f"{format} has no task for this family" for family in families if family not in known
    }
    tasks = {p.name for p in (tmp_path / "out" / "evals").iterdir() if p.is_file()}
    assert ("counterfoil_inspect.py" in tasks) == (format == "inspect")
    assert ("lm_eval_decision.yaml" in tasks) == (format == "lm-eval")


def test_bbq_items_pass_the_rules_of_bbq(tmp_path: Path, release: Path) -> None:
    result = export(release, "bbq", tmp_path / "bbq.jsonl")
    assert result["written"] == 3
    rows = [json.loads(line) for line in (tmp_path / "bbq.jsonl").read_text().splitlines()]
    assert [row["question_polarity"] for row in rows] == ["neg", "nonneg"] * 3
    assert {row["label"] for row in rows} == {1}
    assert rows[0]["answer_info"]["ans0"] == ["Yes", "younger"]
    checked = call("validate", path=tmp_path / "bbq.jsonl").summary()
    findings = {f["check"] for f in checked["findings"] if f["severity"] == "error"}
    assert findings <= {"combination_missing", "set_incomplete"}, checked["findings"]
    reasons = {(item["kind"], item["reason"]) for item in result["left_out_reasons"]}
    assert ("open", "the answer is free text, and BBQ has three options") in reasons
    assert ("decision", "the options are not yes, unknown and no") in reasons
    assert result["left_out"] == sum(item["count"] for item in result["left_out_reasons"])


def test_shipped_entailment_questions_are_items_of_bbq(tmp_path: Path) -> None:
    recipe = recipe_of(families={"entailment": {}}, attributes=["age"])
    questions = [q for q in expand_family(recipe, DATA, "entailment") if q.control == "none"][:6]
    from tasks.package.export import _bbq_fault, bbq_rows

    assert questions
    assert not any(_bbq_fault(q) for q in questions)
    row = bbq_rows(questions[0])[0]
    assert row["context"].startswith("Premise:")
    assert row["question"]


def test_exported_rows_of_cab_can_be_built_on(tmp_path: Path, release: Path) -> None:
    out = tmp_path / "cab.csv"
    result = export(release, "cab", out)
    rows = read_csv(out)
    assert tuple(rows[0]) == tuple(COLUMNS)
    assert len(rows) == result["written"] == sum(q["family"] == "open" for q in questions_of(release))
    assert {item["kind"] for item in result["left_out_reasons"]} >= {"decision", "controls", "hard_negatives"}
    recipe = recipe_of(families={"open": {"questions": 1, "files": [{"path": str(out)}]}})
    imported = [q for q in expand_family(recipe, DATA, "open") if q.origin == "imported"]
    assert {q.template for q in imported if q.control == "none"} == {r["example"] for r in rows}


def test_a_target_that_does_not_fit_the_format_is_refused(tmp_path: Path, release: Path) -> None:
    for format, name, message in (
        ("cab", "x.txt", r"named \.csv"),
        ("bbq", "folder", "is one file"),
        ("inspect", "x.py", "written as a folder"),
        ("parquet", "x.csv", r"named \.parquet"),
    ):
        with pytest.raises(InputError, match=message):
            export(release, format, tmp_path / name)
    with pytest.raises(InputError, match="format"):
        export(release, "xlsx", tmp_path / "x.xlsx")


def test_nothing_to_write_is_an_error_with_the_reasons(tmp_path: Path, small_release: Path) -> None:
    with pytest.raises(InputError, match="no question can be written as bbq"):
        export(small_release, "bbq", tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()
