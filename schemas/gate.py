"""Passports of audited judges, findings of the gate, and layouts of foreign datasets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.recipe import Bar
from schemas.tables import Row, Table, content_hash

MIN_ANSWERED = 0.5
"""Share of scenes that must be answered before a judge can pass a probe."""


class ProbeResult(Row):
    """One measure of one probe, with its 95 % interval."""

    probe: str
    """`repeat`, `position`, `a_a`, `planted`, `gold`, a cue, …"""
    measure: str
    value: float | None
    """`None` if the judge abstained on every scene."""
    low: float | None = None
    high: float | None = None
    n: int
    """Scenes behind the value, without abstentions."""
    asked: int
    """Scenes shown to the judge."""
    floor: float | None = None
    """Value of an unbiased judge, if fixed: 0 for differences, ½ for first-pick rates."""
    note: str = ""

    @property
    def differs_from_floor(self) -> bool:
        """Whether the interval excludes the floor."""
        if self.floor is None or self.low is None or self.high is None:
            return False
        return not self.low <= self.floor <= self.high


class Passport(Row):
    """Audit results of one judge with one rubric, one prompt and one comparison."""

    format_version: int = 1
    judge: str
    revision: str | None
    """Model revision reported by the server."""
    rubric: str
    rubric_hash: str
    prompt_hash: str
    comparison: str
    gold: dict[str, str] = Field(default={})
    """Audit files and their sha256."""
    scenes: int
    probes: tuple[ProbeResult, ...]

    def result(self, probe: str, measure: str) -> ProbeResult | None:
        """Return one measure of one probe, or `None` if it was not taken."""
        return next((p for p in self.probes if (p.probe, p.measure) == (probe, measure)), None)

    def shortfalls(self, bar: Bar) -> tuple[str, ...]:
        """Describe every measure that misses the bar. Return an empty tuple if the judge passes."""
        descriptions = (_shortfall(result, bar) for result in self.probes)
        return tuple(text for text in descriptions if text)


def passport_key(judge: str, rubric_hash: str, prompt_hash: str, comparison: str) -> str:
    """Return the key of a passport (16 hex digits): judge, rubric, prompt and comparison."""
    return content_hash([judge, rubric_hash, prompt_hash, comparison])[:16]


MEASURE_TITLES = {
    "beyond_chance": "false positives on identical answers, beyond chance",
    "verdicts_lost_to_order": "verdicts changed by swapping the order, beyond chance",
    "recall_2": "recall of medium planted differences",
    "recall_2_over_a_a": "recall of planted differences minus false positives (lower bound)",
    "verdict_recall_lost": "recall lost to the cue",
    "pick_accuracy_lost": "accuracy of picks lost to the cue",
    "rewordings_over_a_a": "false positives on the same advice in other words, beyond identical answers",
    "length_over_a_a": "false positives on answers that differ in length only, beyond identical answers",
    "pick_accuracy": "better answers picked",
}


def _shortfall(result: ProbeResult, bar: Bar) -> str | None:
    limit = _limit(result, bar)
    if limit is None:
        return None
    name = f"{result.probe}: {MEASURE_TITLES[result.measure]}"
    if result.value is None or result.n < MIN_ANSWERED * result.asked:
        return f"{name}: only {result.n} of {result.asked} scenes could be read"
    value, at_most, bound = limit
    if (value <= bound) if at_most else (value >= bound):
        return None
    return f"{name}: {value:.2f}, and the bar is {'at most' if at_most else 'at least'} {bound:.2f}"


def _limit(result: ProbeResult, bar: Bar) -> tuple[float, bool, float] | None:
    """Return (value, is upper bound, bound), or `None` if the bar does not limit this measure."""
    value = result.value or 0.0
    match result.probe, result.measure:
        case "a_a", "beyond_chance":
            return value, True, bar.max_false_positive_rate
        case "position", "verdicts_lost_to_order":
            return value, True, 1 - bar.min_position_consistency
        case "a_a", "rewordings_over_a_a":
            return value, True, bar.max_rewordings_flagged
        case "a_a", "length_over_a_a":
            return value, True, bar.max_length_flagged
        case "plain", "pick_accuracy":
            return value, False, bar.min_pick_accuracy
        case "planted", "recall_2":
            return value, False, bar.min_planted_recall
        case "planted", "recall_2_over_a_a":
            return result.low if result.low is not None else value, False, 0.01
        case _, "verdict_recall_lost" | "pick_accuracy_lost":
            return value, True, bar.max_cue_loss
    return None


# Results of the gate.

Severity = Literal["error", "warning"]


class Finding(Row):
    """One check that some rows failed."""

    id: str
    table: str
    column: str | None
    check: str
    severity: Severity
    message: str
    """One sentence that describes the problem."""
    count: int
    examples: tuple[str, ...]
    """Ids of the first failing rows. The table `failing_rows` lists all of them."""
    excerpt: str = ""
    """Start of the text of the first failing row."""


VALIDATION: Table[Finding] = Table("validation", Finding, key="id")


class FailingRow(Row):
    """One row that failed one check.

    `row` is the row's id, or its number in a foreign file. `text` is the start of its text.
    """

    table: str
    column: str | None
    check: str
    severity: Severity
    row: str
    text: str = ""


FAILING_ROWS: Table[FailingRow] = Table("failing_rows", FailingRow, key="row")


class SuiteResult(Row):
    """Result of Great Expectations for one table. `result` is its JSON without times and run ids."""

    table: str
    rows: int
    expectations: int
    failed: int
    result: str


SUITE_RESULTS: Table[SuiteResult] = Table("suite_results", SuiteResult, key="table")


class Validation(Row):
    """Verdict of the gate. Warnings are reported, and only errors stop a release."""

    passed: bool
    errors: int
    warnings: int
    rows: dict[str, int]
    """Checked rows per table."""
    findings: tuple[Finding, ...]
    expectations: int
    """Number of evaluated expectations."""
    layouts: dict[str, str] = Field(default={})
    """Recognised layout of each foreign file."""

    def summary(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return self.model_dump(mode="json")


class Quarantine(Row):
    """Questions that failed a check and were removed before measurement."""

    questions: int
    """Questions that would be released."""
    failing: int
    taken: int
    """Removed questions: all that failed, or none if they exceed the limit."""
    limit: float
    """Highest share of questions that may be removed."""
    checks: dict[str, int]
    """Number of failing questions by check."""


class MatchedRows(BaseModel):
    """Rows that agree in the columns `by` should hold every combination of the columns `every`.

    Columns of `every` that a dataset lacks do not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    by: tuple[str, ...]
    every: tuple[str, ...]


class Layout(BaseModel):
    """Format of a foreign dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    title: str
    columns: tuple[str, ...]
    """Required columns."""
    asked: tuple[str, ...] = ()
    """Columns that a model reads."""
    templates: tuple[str, ...] = ()
    """Columns with templates, which may contain open slots."""
    one_of: dict[str, tuple[str, ...]] = {}
    differ: tuple[tuple[str, ...], ...] = ()
    """Sets of columns that must differ within a row."""
    sets: MatchedRows | None = None
    nested: str | None = None
    """Column that may hold several rows as lists or records, as on the Hub."""
    class_labels: dict[str, tuple[str, ...]] = {}
    """Names of classes that may be stored as integers, by column."""


class Layouts(BaseModel):
    """Content of data/layouts.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    layouts: tuple[Layout, ...]
