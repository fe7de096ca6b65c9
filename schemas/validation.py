"""What the gate found: one finding a check, the rows that failed it, and whether the whole may pass."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    excerpt: str = ""
    """The beginning of what the first of them says."""


VALIDATION: Table[Finding] = Table("validation", Finding, key="id")


class FailingRow(Row):
    """One row that did not pass one check. `row` is the row's id (or its number, in a foreign file), `text`
    the beginning of what it says."""

    table: str
    column: str | None
    check: str
    severity: Severity
    row: str
    text: str = ""


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
    layouts: dict[str, str] = Field(default={})
    """What datasets that are not ours look like, by file."""

    def summary(self) -> dict[str, Any]:
        """The verdict as one JSON object."""
        return self.model_dump(mode="json")


class Quarantine(Row):
    """Questions that failed a check and were taken out before anything was measured of them."""

    questions: int
    """That would be released."""
    failing: int
    taken: int
    """All that fail, or none where that would be more than the recipe allows."""
    limit: float
    """Share of the questions that the recipe lets be taken out."""
    checks: dict[str, int]
    """Failing questions by the check that is their reason."""


class MatchedRows(BaseModel):
    """Rows that belong together: those that agree in `by`, which should have every combination of `every`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    by: tuple[str, ...]
    every: tuple[str, ...]


class Layout(BaseModel):
    """The format of a dataset that is not ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    title: str
    columns: tuple[str, ...]
    """All are there, whatever else is."""
    asked: tuple[str, ...] = ()
    """What a model reads."""
    templates: tuple[str, ...] = ()
    """Texts whose slots are meant to be open."""
    one_of: dict[str, tuple[str, ...]] = {}
    differ: tuple[tuple[str, ...], ...] = ()
    """Columns that must not read the same in one row."""
    sets: MatchedRows | None = None


class Layouts(BaseModel):
    """data/layouts.yaml"""

    model_config = ConfigDict(frozen=True, extra="forbid")
    layouts: tuple[Layout, ...]
