"""Which questions stand behind the rows that fail, so that a release can go on without them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from schemas.judgement import JUDGEMENTS
from schemas.label import LABEL_HISTORY
from schemas.question import QUESTIONS
from schemas.response import RESPONSES
from tasks.checks.catalogue import OF_ROWS
from tasks.checks.columns import column, lookup
from tasks.checks.findings import Problem

SUBJECTS: Mapping[str, str] = {
    RESPONSES.name: "question_id",
    JUDGEMENTS.name: "question_id",
    LABEL_HISTORY.name: "subject_id",
}
"""By table, the column that names the question of a row."""


def failing_questions(problems: Iterable[Problem], tables: Mapping[str, pa.Table]) -> dict[str, str]:
    """Id of every question that fails a check of rows by itself or by a row that belongs to it, and the first
    such check. What concerns the whole (hashes, counts, rates) is no fault of any question, nor is a row
    whose question is not at hand."""
    known = set(tables[QUESTIONS.name]["id"].to_pylist())
    found: dict[str, str] = {}
    for problem in problems:
        if problem.severity == "error" and problem.check in OF_ROWS:
            for question in _behind(problem, tables, known):
                found.setdefault(question, problem.check)
    return dict(sorted(found.items()))


def questions_telling(check: str, problems: Iterable[Problem]) -> frozenset[str]:
    """Ids of the questions that fail that check by what they say."""
    return frozenset(
        row for p in problems if p.check == check and p.table.startswith(QUESTIONS.name) for row in p.rows
    )


def _behind(problem: Problem, tables: Mapping[str, pa.Table], known: set[str]) -> Iterator[str]:
    yield from known & set(problem.rows)
    table = problem.table.split(".")[0]
    if table in SUBJECTS:
        rows = tables[table]
        places = lookup(pa.array(problem.rows, pa.string()), column(rows, "id"))
        subjects = rows[SUBJECTS[table]].take(pa.array(places[places >= 0])).to_pylist()
        yield from known & set(subjects)
