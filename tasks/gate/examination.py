"""Run all checks on all tables: single columns, then questions, then references between tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES
from schemas.errors import InputError
from schemas.gate import FailingRow, SuiteResult, Validation
from schemas.labels import DROPPED, LABEL_HISTORY, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.tables import Table
from schemas.vocabulary import Attribute
from tasks.checks.catalogue import Excerpts, Problem, list_failing_rows, report_rows, summarise_problems
from tasks.checks.columns import find_positions, get_column
from tasks.files.vocabulary import read_in_languages, read_lexicon, read_rubric
from tasks.gate.answers import Scale, check_effects, check_judgements, check_label_history, check_responses
from tasks.gate.completeness import (
    check_counted_rows,
    check_counts,
    check_dropped,
    check_outcomes,
    check_shape,
    read_dropped_questions,
)
from tasks.gate.great_expectations import FailingByCheck, Frame, run_suite, split_frames
from tasks.gate.questions import (
    FunctionWords,
    check_balance,
    check_groups,
    check_languages,
    check_leakage,
    check_repeated_texts,
    check_twins,
    check_vocabulary,
)
from tasks.run.memory import release_memory

EXCERPT_LENGTH = 160
"""Maximum length of an excerpt in characters."""
TEXT_COLUMNS: Mapping[str, str] = {QUESTIONS.name: "template", RESPONSES.name: "text", DROPPED.name: "text"}
"""Column of each table that excerpts are taken from."""
TABLES: Mapping[str, Table[Any]] = {
    t.name: t for t in (QUESTIONS, RESPONSES, JUDGEMENTS, LABEL_HISTORY, EFFECTS, DROPPED)
}


@dataclass(frozen=True)
class GateContext:
    """Facts that the tables are checked against. Checks of a missing fact are skipped."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    """By id."""
    scales: Mapping[tuple[str, str], Scale] = field(default_factory=dict)
    """Lowest and highest score by rubric and criterion."""
    words: FunctionWords = field(default_factory=dict)
    """Distinctive words by language."""
    max_failure_rate: float | None = None
    max_abstention_rate: float | None = None
    counts: tuple[StageCounts, ...] = ()
    generated: frozenset[str] = frozenset()
    """Ids of all questions that any stage generated."""
    may_lose_elsewhere: bool = False
    """Whether questions were compared with earlier releases, so that they may have lost to rows of these."""


@dataclass(frozen=True)
class Examination:
    """The result of all checks."""

    problems: tuple[Problem, ...]
    suites: tuple[SuiteResult, ...]
    """Results of Great Expectations, one per frame."""
    rows: Mapping[str, int]
    """Number of rows by table."""
    texts: Excerpts = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)
    """Detected format of each foreign dataset."""

    @property
    def validation(self) -> Validation:
        """The summary of the problems."""
        summary = summarise_problems(self.problems, self.rows, self.suites, self.texts)
        return summary.model_copy(update={"layouts": dict(self.layouts)})

    @property
    def failing(self) -> list[FailingRow]:
        """Every failing row of every problem."""
        return list_failing_rows(self.problems, self.texts)

    def with_problems(self, more: Iterable[Problem]) -> Examination:
        """Return a copy with additional problems."""
        return replace(self, problems=(*self.problems, *more))


SuiteRunner = Callable[[Frame, Mapping[str, pa.Array], FailingByCheck], tuple[list[Problem], SuiteResult]]
"""Runs the suite of a frame. Its arguments are those of `run_suite`."""


def examine(tables: Mapping[str, pa.Table], facts: GateContext, run: SuiteRunner = run_suite) -> Examination:
    """Run every check on the given tables.

    If the columns of a table do not fit its schema, only this is reported.

    Args:
        tables: By the names in `TABLES`.
        facts: Facts to check the tables against.
        run: Runs the suites.
    """
    # Retired questions were checked while they were in use.
    shapes = {name: check_shape(TABLES[name], rows) for name, rows in tables.items() if name in TABLES}
    complete = {name: shape.rows for name, shape in shapes.items() if shape.is_complete}
    shape_problems = [p for shape in shapes.values() for p in shape.problems]
    table_problems = check_questions(complete, facts) if QUESTIONS.name in complete else []
    release_memory()
    column_problems, suites = check_columns(complete, [*shape_problems, *table_problems], run)
    counts = {name: rows.num_rows for name, rows in tables.items()}
    problems = (
        *shape_problems,
        *column_problems,
        *_without_reported(table_problems, column_problems),
        *check_counts(facts.counts),
        *check_counted_rows(facts.counts, counts),
    )
    return Examination(problems, tuple(suites), counts, collect_excerpts(problems, complete))


def check_columns(
    tables: Mapping[str, pa.Table], other: Sequence[Problem] = (), run: SuiteRunner = run_suite
) -> tuple[list[Problem], list[SuiteResult]]:
    """Run the suites of all tables. References to dropped questions are valid.

    Args:
        tables: Tables that fit their schemas.
        other: Problems of checks that use more than one column, for the suite results.
        run: Runs the suites.
    """
    known = {QUESTIONS.name: known_question_ids(tables)}
    failing = {name: {p.check: p.rows for p in other if p.table == name} for name in tables}
    problems: list[Problem] = []
    suites = []
    for name, rows in tables.items():
        for frame in split_frames(TABLES[name], rows):
            frame_problems, result = run(frame, known, failing[name])
            problems += frame_problems
            suites.append(result)
    return problems, suites


def known_question_ids(tables: Mapping[str, pa.Table]) -> pa.Array:
    """Return the ids of kept and dropped questions."""
    kept = tables[QUESTIONS.name]["id"].to_pylist() if QUESTIONS.name in tables else []
    lost = (
        [name for _, name in read_dropped_questions(tables[DROPPED.name])] if DROPPED.name in tables else []
    )
    return pa.array(sorted({name for name in (*kept, *lost) if name is not None}), pa.string())


def _without_reported(problems: Iterable[Problem], of_columns: Iterable[Problem]) -> list[Problem]:
    """Remove unreadable rows if a problem of their columns explains them."""
    reported = {row for p in of_columns if p.table.startswith(QUESTIONS.name) for row in p.rows}
    remaining = []
    for p in problems:
        rows = set(p.rows) - reported if p.check == "row_unreadable" else p.rows
        remaining += report_rows(p.table, p.check, rows, column=p.column, detail=p.detail)
    return remaining


def check_questions(tables: Mapping[str, pa.Table], facts: GateContext) -> list[Problem]:
    """Run the checks that need the questions: groups, twins, and the tables that reference them."""
    rows = tables[QUESTIONS.name]
    questions, unreadable = read_questions(rows)
    known = known_question_ids(tables)
    limit = facts.max_failure_rate
    by_table: dict[str, Callable[[pa.Table], list[Problem]]] = {
        RESPONSES.name: lambda t: check_responses(t, rows, limit),
        JUDGEMENTS.name: lambda t: check_judgements(t, rows, facts.scales, facts.max_abstention_rate),
        LABEL_HISTORY.name: lambda t: check_label_history(t, questions),
        EFFECTS.name: lambda t: check_effects(t, known),
        DROPPED.name: lambda t: _check_dropped(t, questions, facts),
    }
    return [
        *report_rows(QUESTIONS.name, "table_empty", [QUESTIONS.name] if not rows.num_rows else []),
        *report_rows(QUESTIONS.name, "row_unreadable", unreadable),
        *check_groups(questions),
        *check_vocabulary(questions, facts.attributes),
        *check_repeated_texts(questions),
        *check_twins(questions),
        *check_leakage(questions, facts.attributes),
        *check_languages(questions, facts.words),
        *check_balance(questions),
        *(p for name, check in by_table.items() if name in tables for p in check(tables[name])),
    ]


def _check_dropped(dropped: pa.Table, questions: Sequence[Question], facts: GateContext) -> list[Problem]:
    lost = read_dropped_questions(dropped)
    kept = [q.id for q in questions]
    return [
        *check_dropped(kept, lost, may_lose_elsewhere=facts.may_lose_elsewhere),
        *check_outcomes(facts.generated, kept, lost),
    ]


def read_questions(rows: pa.Table) -> tuple[list[Question], list[str]]:
    """Return the valid questions, and the ids of the other rows."""
    questions, unreadable = [], []
    for batch in rows.to_batches(max_chunksize=4096):
        for record in batch.to_pylist():
            try:
                questions.append(Question.model_validate(record))
            except ValidationError:
                unreadable.append(str(record["id"]))
    return questions, unreadable


# Facts from the vocabulary


def read_gate_context(
    data_dir: Path,
    tables: Mapping[str, pa.Table],
    *,
    max_failure_rate: float | None = None,
    max_abstention_rate: float | None = None,
    counts: tuple[StageCounts, ...] = (),
    generated: frozenset[str] = frozenset(),
    may_lose_elsewhere: bool = False,
) -> GateContext:
    """Read the attributes and scales that the tables use, and the words of all languages."""
    return GateContext(
        attributes=read_known_attributes(data_dir, tables),
        scales=read_known_scales(data_dir, tables),
        words=read_language_words(data_dir),
        max_failure_rate=max_failure_rate,
        max_abstention_rate=max_abstention_rate,
        counts=counts,
        generated=generated,
        may_lose_elsewhere=may_lose_elsewhere,
    )


def read_known_attributes(data_dir: Path, tables: Mapping[str, pa.Table]) -> dict[str, Attribute]:
    """Read the attributes of the questions. Attributes without a file are left out."""
    known = {}
    languages = _distinct(tables, QUESTIONS.name, "language")
    for name in _distinct(tables, QUESTIONS.name, "attribute"):
        try:
            known[name] = read_in_languages(data_dir, name, languages)
        except InputError:
            continue
    return known


def read_known_scales(data_dir: Path, tables: Mapping[str, pa.Table]) -> dict[tuple[str, str], Scale]:
    """Read the lowest and highest score of every criterion of the rubrics that the judgements used."""
    scales = {}
    for name in _distinct(tables, JUDGEMENTS.name, "rubric"):
        try:
            rubric = read_rubric(data_dir, name)
        except InputError:
            continue
        scales.update({(name, c.id): (float(c.low), float(c.high)) for c in rubric.criteria})
    return scales


def read_language_words(data_dir: Path) -> dict[str, frozenset[str]]:
    """Read the words of each language that no other language in `data/lexicons/common_words.yaml` has."""
    words = {listed.id: frozenset(listed.words) for listed in read_lexicon(data_dir, "common_words").lists}
    return {
        name: own - frozenset().union(*(w for other, w in words.items() if other != name))
        for name, own in words.items()
    }


def _distinct(tables: Mapping[str, pa.Table], table: str, column: str) -> list[str]:
    rows = tables.get(table)
    if rows is None or column not in rows.column_names:
        return []
    return sorted({str(value) for value in rows[column].unique().to_pylist() if value is not None})


# Excerpts


def collect_excerpts(problems: Iterable[Problem], tables: Mapping[str, pa.Table]) -> Excerpts:
    """Return an excerpt of every failing row that is in a table with a text column."""
    listed = list(problems)
    failing = pa.array(sorted({row for p in listed for row in p.rows}), pa.string())
    by_id: dict[str, str] = {}
    for name, text in TEXT_COLUMNS.items():
        if name in tables:
            ids = get_column(tables[name], "id")
            positions = find_positions(failing, ids)
            present = pa.array(positions[positions >= 0])
            texts = tables[name][text].take(present).to_pylist()
            by_id |= zip(ids.take(present).to_pylist(), map(excerpt, texts), strict=True)
    return {(p.table, p.column, row): by_id[row] for p in listed for row in p.rows if row in by_id}


def excerpt(text: object) -> str:
    """Return the beginning of a text on one line."""
    beginning = "" if text is None else str(text)[: 4 * EXCERPT_LENGTH]
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in beginning).split())
    return line if len(line) <= EXCERPT_LENGTH else line[: EXCERPT_LENGTH - 1].rstrip() + "…"
