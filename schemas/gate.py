"""The passport of a judge: what the audit found, and how that compares with what a recipe asks for."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.recipe import Bar
from schemas.tables import Row, Table, content_hash

MOST = 0.5
"""Share of its looks that a probe needs an answer to, before a judge can pass by it."""


class ProbeResult(Row):
    """One measure of one probe, with its 95 % interval."""

    probe: str
    """`repeat`, `position`, `a_a`, `planted`, `gold`, a cue, …"""
    measure: str
    value: float | None
    """`None`: nothing could be measured, because the judge abstained."""
    low: float | None = None
    high: float | None = None
    n: int
    """Scenes behind the value; abstentions are not among them."""
    asked: int
    """Scenes that were asked about."""
    floor: float | None = None
    """What the value is read against, where that is a fixed number: 0 for differences, ½ for first places."""
    note: str = ""

    @property
    def differs_from_floor(self) -> bool:
        """Whether the interval leaves the floor out."""
        if self.floor is None or self.low is None or self.high is None:
            return False
        return not self.low <= self.floor <= self.high


class Passport(Row):
    """What the audit found of one judge with one rubric, one prompt and one way of comparing."""

    format_version: int = 1
    judge: str
    revision: str | None
    """What its server says it ran."""
    rubric: str
    rubric_hash: str
    prompt_hash: str
    comparison: str
    gold: dict[str, str] = Field(default={})
    """The files that it was audited with, by sha256."""
    scenes: int
    probes: tuple[ProbeResult, ...]

    def result(self, probe: str, measure: str) -> ProbeResult | None:
        """That measure, if it was taken."""
        return next((p for p in self.probes if (p.probe, p.measure) == (probe, measure)), None)

    def shortfalls(self, bar: Bar) -> tuple[str, ...]:
        """In words, everything in which the judge is below the bar; empty: it passes."""
        told = (_shortfall(result, bar) for result in self.probes)
        return tuple(words for words in told if words)


def passport_key(judge: str, rubric_hash: str, prompt_hash: str, comparison: str) -> str:
    """What a passport is valid for, as 16 hex digits."""
    return content_hash([judge, rubric_hash, prompt_hash, comparison])[:16]


WORDS = {
    "beyond_chance": "identical answers said to differ, beyond chance",
    "verdicts_lost_to_order": "verdicts that change when the order is swapped, beyond chance",
    "recall_2": "recall of planted differences of the middle size",
    "recall_2_over_a_a": "recall of planted differences minus false alarms on identical answers (lower end)",
    "verdict_recall_lost": "recall lost to the cue",
    "pick_accuracy_lost": "accuracy of picks lost to the cue",
}


def _shortfall(result: ProbeResult, bar: Bar) -> str | None:
    limit = _limit(result, bar)
    if limit is None:
        return None
    name = f"{result.probe}: {WORDS[result.measure]}"
    if result.value is None or result.n < MOST * result.asked:
        return f"{name}: only {result.n} of {result.asked} scenes could be read"
    counted, at_most, wanted = limit
    if (counted <= wanted) if at_most else (counted >= wanted):
        return None
    return f"{name}: {counted:.2f}, and the bar is {'at most' if at_most else 'at least'} {wanted:.2f}"


def _limit(result: ProbeResult, bar: Bar) -> tuple[float, bool, float] | None:
    """What counts, whether it may be at most (else at least) what follows; `None` where there is no bar."""
    value = result.value or 0.0
    match result.probe, result.measure:
        case "a_a", "beyond_chance":
            return value, True, bar.max_false_positive_rate
        case "position", "verdicts_lost_to_order":
            return value, True, 1 - bar.min_position_consistency
        case "planted", "recall_2":
            return value, False, bar.min_planted_recall
        case "planted", "recall_2_over_a_a":
            return result.low if result.low is not None else value, False, 0.01
        case _, "verdict_recall_lost" | "pick_accuracy_lost":
            return value, True, bar.max_cue_loss
    return None


# What the gate found: one finding a check, the rows that failed it, and whether the whole may pass.


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
