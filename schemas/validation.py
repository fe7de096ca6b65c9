"""What the gate found: one finding a check, the rows that failed it, and whether the whole may pass."""

from __future__ import annotations

from typing import Any, Literal

from schemas.tables import Row, Table

Severity = Literal["error", "warning"]


class Finding(Row):
    """One check that some rows did not pass."""

    id: str
    table: str
    column: str | None
    check: str
    severity: Severity
    message: str
    """One sentence that says what is wrong."""
    count: int
    examples: tuple[str, ...]
    """Ids of the first failing rows; the table `failing_rows` has all of them."""


VALIDATION: Table[Finding] = Table("validation", Finding, key="id")


class FailingRow(Row):
    """One row that did not pass one check. `row` is the row's id (or its number, in a foreign file)."""

    table: str
    column: str | None
    check: str
    severity: Severity
    row: str


FAILING_ROWS: Table[FailingRow] = Table("failing_rows", FailingRow, key="row")


class SuiteResult(Row):
    """What Great Expectations said about one table. `result` is its JSON, without times and run ids."""

    table: str
    rows: int
    expectations: int
    failed: int
    result: str


SUITE_RESULTS: Table[SuiteResult] = Table("suite_results", SuiteResult, key="table")


class Validation(Row):
    """The verdict. Warnings are told; only errors stop a release."""

    passed: bool
    errors: int
    warnings: int
    rows: dict[str, int]
    """Rows per table that was looked at."""
    findings: tuple[Finding, ...]
    expectations: int
    """How many expectations were put to the tables."""

    def summary(self) -> dict[str, Any]:
        """The verdict as one JSON object."""
        return self.model_dump(mode="json")
