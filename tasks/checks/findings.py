"""From problems (a check and the ids of all rows that fail it) to findings that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from schemas.ids import content_id
from schemas.validation import FailingRow, Finding, Severity, SuiteResult, Validation
from tasks.checks.catalogue import CHECKS

EXAMPLES = 10

Excerpts = Mapping[tuple[str, str | None, str], str]
"""Beginnings of what failing rows say, by table, column and row."""


@dataclass(frozen=True)
class Problem:
    """Rows of one table that fail one check of the catalogue."""

    table: str
    check: str
    rows: tuple[str, ...]
    column: str | None = None
    detail: str = ""
    """What the sentence of the catalogue cannot know: the numbers, the names."""

    @property
    def severity(self) -> Severity:
        return CHECKS[self.check].severity

    @property
    def message(self) -> str:
        column = f"{self.column}: " if self.column else ""
        return column + CHECKS[self.check].says + (f" ({self.detail})" if self.detail else "")


def problem(
    table: str, check: str, rows: Iterable[str | None], *, column: str | None = None, detail: str = ""
) -> list[Problem]:
    """That problem where any row has it; nothing where none has. Rows are sorted and told once."""
    failing = tuple(sorted({str(row) for row in rows}, key=_numbers_by_size))
    return [Problem(table, check, failing, column, detail)] if failing else []


def _numbers_by_size(row: str) -> tuple[int, str]:
    return (len(row), row) if row.isdecimal() else (0, row)


def summarise(
    problems: Sequence[Problem],
    rows: Mapping[str, int],
    suites: Sequence[SuiteResult] = (),
    texts: Excerpts = MappingProxyType({}),
) -> Validation:
    """The verdict over all problems: errors first, then by table and check."""
    findings = sorted(
        (_finding(p, texts) for p in problems), key=lambda f: (f.severity, f.table, f.check, f.column or "")
    )
    errors = sum(f.severity == "error" for f in findings)
    return Validation(
        passed=errors == 0,
        errors=errors,
        warnings=len(findings) - errors,
        rows=dict(sorted(rows.items())),
        findings=tuple(findings),
        expectations=sum(s.expectations for s in suites),
    )


def failing_rows(problems: Sequence[Problem], texts: Excerpts = MappingProxyType({})) -> list[FailingRow]:
    """Every failing row of every problem, in the order of the findings. `texts`: what rows say."""
    ordered = sorted(problems, key=lambda p: (p.severity, p.table, p.check, p.column or ""))
    return [
        FailingRow(
            table=p.table,
            column=p.column,
            check=p.check,
            severity=p.severity,
            row=row,
            text=texts.get((p.table, p.column, row), ""),
        )
        for p in ordered
        for row in p.rows
    ]


def _finding(found: Problem, texts: Excerpts) -> Finding:
    return Finding(
        id=content_id("finding", found.table, found.column, found.check, found.detail),
        table=found.table,
        column=found.column,
        check=found.check,
        severity=found.severity,
        message=found.message,
        count=len(found.rows),
        examples=found.rows[:EXAMPLES],
        excerpt=texts.get((found.table, found.column, found.rows[0]), ""),
    )
