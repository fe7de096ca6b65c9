"""What the failing rows say, for the eyes of a person: an id alone explains nothing."""

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
from tasks.checks.catalogue import Excerpts, Problem, failing_rows, problem, summarise
from tasks.checks.columns import column, lookup
from tasks.files.vocabulary import read_attribute, read_lexicon, read_rubric
from tasks.gate.answers import Scale, check_effects, check_judgements, check_label_history, check_responses
from tasks.gate.great_expectations import Failing, Frame, frames_of, run_suite
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
from tasks.gate.whole import (
    check_counted_rows,
    check_counts,
    check_dropped,
    check_endings,
    check_shape,
    dropped_questions,
)

LENGTH = 160
SAYS: Mapping[str, str] = {QUESTIONS.name: "template", RESPONSES.name: "text", DROPPED.name: "text"}
"""By table, the column that a person reads."""


def excerpts_of(problems: Iterable[Problem], tables: Mapping[str, pa.Table]) -> Excerpts:
    """The beginning of what every failing row says, as far as it stands in a table with a text."""
    told = list(problems)
    wanted = pa.array(sorted({row for p in told for row in p.rows}), pa.string())
    by_id: dict[str, str] = {}
    for name, text in SAYS.items():
        if name in tables:
            ids = column(tables[name], "id")
            places = lookup(wanted, ids)
            found = pa.array(places[places >= 0])
            texts = tables[name][text].take(found).to_pylist()
            by_id |= zip(ids.take(found).to_pylist(), map(excerpt, texts), strict=True)
    return {(p.table, p.column, row): by_id[row] for p in told for row in p.rows if row in by_id}


def excerpt(text: object) -> str:
    """The beginning, on one line."""
    beginning = "" if text is None else str(text)[: 4 * LENGTH]
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in beginning).split())
    return line if len(line) <= LENGTH else line[: LENGTH - 1].rstrip() + "…"


# What the tables are held against, read from the vocabulary.


def known_attributes(data_dir: Path, tables: Mapping[str, pa.Table]) -> dict[str, Attribute]:
    """The attributes that the questions name, as far as there are files of them."""
    known = {}
    for name in _distinct(tables, QUESTIONS.name, "attribute"):
        try:
            known[name] = read_attribute(data_dir, name)
        except InputError:
            continue
    return known


def known_scales(data_dir: Path, tables: Mapping[str, pa.Table]) -> dict[tuple[str, str], Scale]:
    """Lowest and highest score of every criterion of the rubrics that were used."""
    scales = {}
    for name in _distinct(tables, JUDGEMENTS.name, "rubric"):
        try:
            rubric = read_rubric(data_dir, name)
        except InputError:
            continue
        scales.update({(name, c.id): (float(c.low), float(c.high)) for c in rubric.criteria})
    return scales


def known_vocabulary_words(data_dir: Path) -> dict[str, frozenset[str]]:
    """By language, the words that it shares with no other in `data/lexicons/common_words.yaml`."""
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


# All checks over all tables at hand: what single columns say, then groups, then tables against tables.


TABLES: Mapping[str, Table[Any]] = {
    t.name: t for t in (QUESTIONS, RESPONSES, JUDGEMENTS, LABEL_HISTORY, EFFECTS, DROPPED)
}


@dataclass(frozen=True)
class KnownVocabulary:
    """What the tables are held against. What is not known is not checked."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    scales: Mapping[tuple[str, str], Scale] = field(default_factory=dict)
    words: FunctionWords = field(default_factory=dict)
    """Words that tell languages apart."""
    max_failure_rate: float | None = None
    counts: tuple[StageCounts, ...] = ()
    generated: frozenset[str] = frozenset()
    """Ids of all questions that any stage made."""
    may_lose_elsewhere: bool = False
    """Whether questions were compared with earlier releases, so that one may have lost to a row of theirs."""


@dataclass(frozen=True)
class Examination:
    """Everything that was found, and what Great Expectations said about every table."""

    problems: tuple[Problem, ...]
    suites: tuple[SuiteResult, ...]
    rows: Mapping[str, int]
    texts: Excerpts = field(default_factory=dict)
    """What the failing rows say."""
    layouts: Mapping[str, str] = field(default_factory=dict)
    """What datasets that are not ours look like."""

    @property
    def validation(self) -> Validation:
        found = summarise(self.problems, self.rows, self.suites, self.texts)
        return found.model_copy(update={"layouts": dict(self.layouts)})

    @property
    def failing(self) -> list[FailingRow]:
        return failing_rows(self.problems, self.texts)

    def with_problems(self, more: Iterable[Problem]) -> Examination:
        """The same, with what was found elsewhere."""
        return replace(self, problems=(*self.problems, *more))


SuiteRunner = Callable[[Frame, Mapping[str, pa.Array], Failing], tuple[list[Problem], SuiteResult]]
"""Puts a frame's suite to its rows: the ids that references may name, what the other checks found."""


def examine(
    tables: Mapping[str, pa.Table], knowledge: KnownVocabulary, suites_by: SuiteRunner = run_suite
) -> Examination:
    """Put every check to the tables that are there (by the names of `TABLES`).

    A table whose columns are not those of its schema is only told so: nothing else can be said about it.
    """
    shapes = {name: check_shape(TABLES[name], rows) for name, rows in tables.items()}
    whole = {name: shapes[name].rows for name in tables if shapes[name].is_whole}
    shaped = [p for shape in shapes.values() for p in shape.problems]
    own = check_questions(whole, knowledge) if QUESTIONS.name in whole else []
    columns, suites = check_columns(whole, [*shaped, *own], suites_by)
    counted = {name: rows.num_rows for name, rows in tables.items()}
    problems = (
        *shaped,
        *columns,
        *_not_told(own, columns),
        *check_counts(knowledge.counts),
        *check_counted_rows(knowledge.counts, counted),
    )
    return Examination(problems, tuple(suites), counted, excerpts_of(problems, whole))


def check_columns(
    tables: Mapping[str, pa.Table], own: Sequence[Problem] = (), suites_by: SuiteRunner = run_suite
) -> tuple[list[Problem], list[SuiteResult]]:
    """The suites of all tables. A question may be referred to as long as it is kept or was dropped. `own`:
    what the checks of more than one column found."""
    known = {QUESTIONS.name: known_questions(tables)}
    failing = {name: {p.check: p.rows for p in own if p.table == name} for name in tables}
    problems: list[Problem] = []
    suites = []
    for name, rows in tables.items():
        for frame in frames_of(TABLES[name], rows):
            found, result = suites_by(frame, known, failing[name])
            problems += found
            suites.append(result)
    return problems, suites


def known_questions(tables: Mapping[str, pa.Table]) -> pa.Array:
    """Ids of kept and dropped questions."""
    kept = tables[QUESTIONS.name]["id"].to_pylist() if QUESTIONS.name in tables else []
    lost = [name for _, name in dropped_questions(tables[DROPPED.name])] if DROPPED.name in tables else []
    return pa.array(sorted({name for name in (*kept, *lost) if name is not None}), pa.string())


def _not_told(own: Iterable[Problem], columns: Iterable[Problem]) -> list[Problem]:
    """What was found, without rows that cannot be read because of a value that is told already."""
    told = {row for p in columns if p.table.startswith(QUESTIONS.name) for row in p.rows}
    found = []
    for p in own:
        rows = set(p.rows) - told if p.check == "row_unreadable" else p.rows
        found += problem(p.table, p.check, rows, column=p.column, detail=p.detail)
    return found


def check_questions(tables: Mapping[str, pa.Table], knowledge: KnownVocabulary) -> list[Problem]:
    """Everything that needs the questions: groups, twins, and the tables that refer to them."""
    rows = tables[QUESTIONS.name]
    questions, unreadable = read_questions(rows)
    known = known_questions(tables)
    tolerated = knowledge.max_failure_rate
    across: dict[str, Callable[[pa.Table], list[Problem]]] = {
        RESPONSES.name: lambda t: check_responses(t, rows, tolerated),
        JUDGEMENTS.name: lambda t: check_judgements(t, rows, knowledge.scales, tolerated),
        LABEL_HISTORY.name: lambda t: check_label_history(t, questions),
        EFFECTS.name: lambda t: check_effects(t, known),
        DROPPED.name: lambda t: _check_dropped(t, questions, knowledge),
    }
    return [
        *problem(QUESTIONS.name, "table_empty", [QUESTIONS.name] if not rows.num_rows else []),
        *problem(QUESTIONS.name, "row_unreadable", unreadable),
        *check_groups(questions),
        *check_vocabulary(questions, knowledge.attributes),
        *check_repeated_texts(questions),
        *check_twins(questions),
        *check_leakage(questions, knowledge.attributes),
        *check_languages(questions, knowledge.words),
        *check_balance(questions),
        *(p for name, check in across.items() if name in tables for p in check(tables[name])),
    ]


def _check_dropped(
    dropped: pa.Table, questions: Sequence[Question], knowledge: KnownVocabulary
) -> list[Problem]:
    lost = dropped_questions(dropped)
    kept = [q.id for q in questions]
    return [
        *check_dropped(kept, lost, may_lose_elsewhere=knowledge.may_lose_elsewhere),
        *check_endings(knowledge.generated, kept, lost),
    ]


def read_questions(rows: pa.Table) -> tuple[list[Question], list[str]]:
    """The rows that are questions, and the ids of those that are not."""
    questions, unreadable = [], []
    for batch in rows.to_batches(max_chunksize=4096):
        for record in batch.to_pylist():
            try:
                questions.append(Question.model_validate(record))
            except ValidationError:
                unreadable.append(str(record["id"]))
    return questions, unreadable
