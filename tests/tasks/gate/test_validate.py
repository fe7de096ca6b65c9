"""The gate as a stage, as an error on one screen, and on paths of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import GateError, InputError
from schemas.gate import FAILING_ROWS, Validation
from schemas.labels import DROPPED, Dropped
from schemas.question import QUESTIONS
from tasks.gate import (
    STAGE,
    examine_path,
    raise_if_failed,
    read_suite_results,
    read_validation,
    validate_path,
    write_data_docs,
    write_failing_rows,
)
from tasks.gate.examination import TABLES, GateContext, excerpt
from tasks.release import CONFIGS
from tasks.run.journal import note_step, start_journal
from tasks.run.store import Outcome, RunContext, Step, TableRef, read_table, run_stage, write_step
from tests.conftest import DATA
from tests.material.good_tables import Tables, good_tables

ContextMaker = Callable[..., RunContext]


def refs_of(place: Path, tables: Tables) -> dict[str, TableRef]:
    """The tables as a finished step has them."""
    rows = {TABLES[name]: rows for name, rows in tables.items() if name != DROPPED.name}
    lost: list[Dropped] = tables.get(DROPPED.name, [])
    step = write_step(place, "assemble", "0", Outcome(tables=rows, counts=(), dropped=tuple(lost)))
    return {ref.table: ref for ref in step.tables}


def validated(place: Path, make_context: ContextMaker, tables: Tables, **more: Any) -> Step:
    context = make_context(validate={"max_failure_rate": 0.05})
    return run_stage(STAGE, context, **refs_of(place, tables), **more)


@pytest.fixture
def good() -> tuple[Tables, GateContext]:
    return good_tables()


@pytest.fixture
def answered(good: tuple[Tables, GateContext]) -> Tables:
    """Questions and responses only: most of the gate's time goes into suites of columns."""
    return {name: good[0][name] for name in ("questions", "responses")}


@pytest.fixture
def asked(good: tuple[Tables, GateContext]) -> Tables:
    """Questions only."""
    return {"questions": good[0]["questions"]}


def test_valid_tables_pass_with_the_number_of_checked_rows(
    tmp_path: Path, make_context: ContextMaker, good: tuple[Tables, GateContext]
) -> None:
    tables, knowledge = good
    verdict = read_validation(validated(tmp_path / "a", make_context, tables, counts=knowledge.counts))
    assert verdict.passed
    assert verdict.findings == ()
    assert verdict.expectations > 150
    assert verdict.rows["responses"] == len(tables["responses"])
    raise_if_failed(verdict)


def test_stage_reports_but_does_not_raise_and_the_gate_names_the_file(
    tmp_path: Path, make_context: ContextMaker, asked: Tables
) -> None:
    first = asked["questions"][0]
    variant = first.variants[1].model_copy(update={"text": "something else"})
    asked["questions"][0] = first.model_copy(update={"variants": (first.variants[0], variant)})
    step = validated(tmp_path / "a", make_context, asked)
    failing = read_table(step.table("failing_rows"), FAILING_ROWS)
    assert ("variant_missing", first.id) in {(f.check, f.row) for f in failing}
    where = step.table("failing_rows").path
    with pytest.raises(GateError, match="variant_missing") as raised:
        raise_if_failed(read_validation(step), where)
    assert raised.value.place == where
    assert raised.value.exit_code == 3
    assert first.id in raised.value.message


def test_warnings_alone_do_not_stop_a_release_and_all_their_rows_are_kept(
    tmp_path: Path, make_context: ContextMaker, answered: Tables
) -> None:
    answered["responses"] = [
        r.model_copy(update={"text": "Write to jo@example.org"}) for r in answered["responses"]
    ]
    step = validated(tmp_path / "a", make_context, answered)
    verdict = read_validation(step)
    assert verdict.passed
    (finding,) = verdict.findings
    assert (finding.check, finding.severity) == ("personal_data_in_answer", "warning")
    rows = [f.row for f in read_table(step.table("failing_rows"), FAILING_ROWS)]
    assert finding.count == len(rows) == len(answered["responses"])
    assert list(finding.examples) == rows[:10]


def test_generated_question_without_a_final_table_is_reported(
    tmp_path: Path, make_context: ContextMaker, asked: Tables
) -> None:
    generated = refs_of(tmp_path / "generated", asked)["questions"]
    gone = asked["questions"].pop()
    step = validated(tmp_path / "a", make_context, asked, generated=[generated])
    lost = [f for f in read_validation(step).findings if f.check == "question_lost"]
    assert [f.examples for f in lost] == [(gone.id,)]


def test_absent_tables_are_not_missed(tmp_path: Path, make_context: ContextMaker, asked: Tables) -> None:
    verdict = read_validation(validated(tmp_path / "a", make_context, asked))
    assert verdict.passed
    assert set(verdict.rows) == {"questions", "dropped"}


def test_same_tables_give_the_same_bytes(tmp_path: Path, make_context: ContextMaker, asked: Tables) -> None:
    refs = refs_of(tmp_path / "a", asked)
    context = make_context()
    first, second = (
        write_step(tmp_path / name, "validate", "0", STAGE.run(context, **refs)) for name in ("x", "y")
    )
    assert [t.sha256 for t in first.tables] == [t.sha256 for t in second.tables]
    assert first.notes == second.notes


def test_data_docs_are_the_same_to_the_byte_and_readable_offline(
    tmp_path: Path, make_context: ContextMaker, answered: Tables
) -> None:
    evil = "<script>alert(1)</script> jo@example.org"
    answered["responses"][0] = answered["responses"][0].model_copy(update={"text": evil})
    results = read_suite_results(validated(tmp_path / "a", make_context, answered))
    pages = [write_data_docs(results, tmp_path / name) for name in ("x", "y")]
    names = [p.name for p in pages[0]]
    assert names[0] == "dropped.html"
    assert {"index.html", "questions.html", "questions.variants.html", "responses.html"} <= set(names)
    assert [p.read_bytes() for p in pages[0]] == [p.read_bytes() for p in pages[1]]
    for page in pages[0]:
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "//" not in text.replace("/* ", "").replace("<!DOCTYPE", "")
        assert str(tmp_path) not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (tmp_path / "x" / "responses.html").read_text()


def test_error_fits_on_one_screen() -> None:
    found = [
        {"id": str(i), "table": "t", "column": None, "check": f"c{i}", "severity": "error"}
        | {"message": "m", "count": 50, "examples": ("a", "b", "c", "d")}
        for i in range(40)
    ]
    verdict = Validation.model_validate(
        {"passed": False, "errors": 40, "warnings": 0, "rows": {}, "findings": found, "expectations": 0}
    )
    with pytest.raises(GateError) as raised:
        raise_if_failed(verdict, "failing_rows.parquet")
    lines = str(raised.value).splitlines()
    assert len(lines) <= 24
    assert "40 errors" in lines[0]
    assert any("30 more" in line for line in lines)


def test_summary_is_json_with_the_verdict() -> None:
    verdict = Validation(passed=True, errors=0, warnings=0, rows={"a": 1}, findings=(), expectations=2)
    assert json.loads(json.dumps(verdict.summary()))["passed"] is True


def test_table_of_ours_in_another_format_is_recognised(
    tmp_path: Path, good: tuple[Tables, GateContext]
) -> None:
    rows = [q.model_dump(mode="json") for q in good[0]["questions"] if q.label != "hard_negative"]
    rows[0]["variants"][0]["text"] = "changed"
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = validate_path(path)
    assert "variants_differ_outside_slots" in {f.check for f in found.findings}
    assert found.rows == {"mine.jsonl": len(rows)}
    assert QUESTIONS.name in {f.table for f in found.findings}


def test_empty_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no files to validate"):
        validate_path(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        validate_path(tmp_path / "absent")


def test_a_run_is_validated_by_the_tables_of_its_latest_build(
    tmp_path: Path, make_context: ContextMaker, asked: Tables
) -> None:
    context = make_context()
    start_journal(context)
    run = Path(context.run_dir)
    with pytest.raises(InputError, match="has not assembled its tables yet"):
        validate_path(run)
    by_config: Tables = {"questions": [], "hard_negatives": [], "controls": []}
    for question in asked["questions"]:
        control = "controls" if question.control != "none" else "questions"
        by_config["hard_negatives" if question.label == "hard_negative" else control].append(question)
    first = by_config["questions"][0]
    by_config["questions"][0] = first.model_copy(update={"variants": first.variants[:1]})
    tables = {CONFIGS[name]: rows for name, rows in by_config.items()}
    outcome = Outcome(tables=tables, counts=())
    note_step(context, write_step(run / f"assemble-{'0' * 16}", "assemble", "0" * 64, outcome))
    verdict = validate_path(run)
    assert verdict.rows == {"questions": len(asked["questions"]), "dropped": 0}
    found = {f.check: f for f in verdict.findings}
    assert found["variant_missing"].examples == (first.id,)
    assert found["variant_missing"].excerpt.startswith("My neighbour")


def test_failing_rows_are_written_one_per_line_with_their_content(tmp_path: Path, asked: Tables) -> None:
    asked["questions"][0] = asked["questions"][0].model_copy(update={"topic": "lad\x00der"})
    rows = [q.model_dump(mode="json") for q in asked["questions"]]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examined = examine_path(tmp_path / "q.jsonl")
    write_failing_rows(examined.failing, tmp_path / "failing.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "failing.jsonl").read_text().splitlines()]
    garbled = next(row for row in rows if row["check"] == "garbled_text")
    assert garbled["row"] == asked["questions"][0].id
    assert garbled["text"].startswith("My neighbour")


def test_content_of_a_failing_row_is_shown_without_control_characters() -> None:
    assert excerpt("a\x1b[31m\nb") == "a�[31m b"
    assert len(excerpt("word " * 100)) <= 160


def test_a_release_with_the_table_of_retired_questions_is_checked(small_release: Path) -> None:
    assert (small_release / "data" / "retired").is_dir()
    found = examine_path(small_release, DATA).validation
    assert not [f for f in found.findings if "retired" in f.table]
