"""What became of every row: kept, or dropped with a stage, a reason and what it lost to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from schemas.errors import GateError
from schemas.tables import Row, Table


class Dropped(Row):
    """A row that left the pipeline. `record` is the row itself as JSON: nothing disappears."""

    id: str
    kind: Literal["question", "response", "judgement", "passage"]
    stage: str
    reason: str
    because_of: str | None
    """Id of the row that it lost to (its duplicate, its better), where there is one."""
    similarity: float | None
    """0 to 100, where the reason is a duplicate."""
    text: str
    record: str


DROPPED: Table[Dropped] = Table("dropped", Dropped, key="id")


class StageCounts(Row):
    """What went through one stage. `rows = kept + dropped + failed`, always."""

    stage: str
    unit: str
    """What is counted: `questions`, `requests`, `groups`, `candidates`, …"""
    rows: int
    kept: int
    dropped: int
    failed: int


STAGE_COUNTS: Table[StageCounts] = Table("counts", StageCounts, key="stage")


def check_reconciled(counts: Iterable[StageCounts]) -> None:
    """Raise `GateError` naming the first stage whose rows do not add up."""
    for c in counts:
        if c.rows != c.kept + c.dropped + c.failed:
            raise GateError(
                f"stage {c.stage}: {c.rows} {c.unit} went in, but {c.kept} kept + {c.dropped} dropped + "
                f"{c.failed} failed = {c.kept + c.dropped + c.failed}",
                hint="this is a defect of the stage: please report it with the run directory",
            )
