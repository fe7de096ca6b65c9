"""Nothing disappears: counts add up, and every generated question ends in exactly one place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.decision import StageCounts, check_reconciled
from schemas.errors import GateError
from schemas.ids import content_id
from tasks.checks.findings import Problem, problem


def check_counts(counts: Iterable[StageCounts]) -> list[Problem]:
    """Rows in = kept + dropped + failed, for every stage."""
    found = []
    for stage in counts:
        try:
            check_reconciled([stage])
        except GateError as error:
            found += problem("counts", "counts_do_not_add_up", [stage.stage], detail=error.message)
    return found


def check_counted_rows(counts: Iterable[StageCounts], rows: Mapping[str, int]) -> list[Problem]:
    """What `assemble` says it kept is what is there."""
    found = []
    for stage in counts:
        table = ASSEMBLED.get(stage.stage)
        if table is not None and table in rows and rows[table] != stage.kept:
            detail = f"{stage.stage} kept {stage.kept}, and there are {rows[table]} {table}"
            found += problem("counts", "counts_contradict_rows", [stage.stage], detail=detail)
    return found


ASSEMBLED: Mapping[str, str] = {
    "assemble": "questions",
    "assemble_responses": "responses",
    "assemble_judgements": "judgements",
}


def dropped_questions(dropped: pa.Table) -> list[tuple[dict[str, Any], str | None]]:
    """Every dropped row of a question, with the id of the question in its record (`None`: unreadable)."""
    columns = ["id", "kind", "stage", "reason", "because_of", "text", "record"]
    rows = (row for row in dropped.select(columns).to_pylist() if row["kind"] == "question")
    return [(row, _recorded_id(row["record"])) for row in rows]


def _recorded_id(record: str | None) -> str | None:
    try:
        found = json.loads(record or "")["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def check_dropped(
    questions: Sequence[str], lost: Sequence[tuple[dict[str, Any], str | None]], *, may_lose_elsewhere: bool
) -> list[Problem]:
    """`may_lose_elsewhere`: questions were compared with an earlier release, whose rows are not at hand."""
    known = {*questions, *(name for _, name in lost)}
    nowhere = [
        row["id"] for row, _ in lost if row["because_of"] is not None and row["because_of"] not in known
    ]
    other = [
        row["id"]
        for row, name in lost
        if name is None or row["id"] != content_id("x", name, row["stage"], row["reason"])
    ]
    told = [row["id"] for row, name in lost if row["reason"] == "held_back" and _says_more(row, name)]
    return [
        *problem("dropped", "drop_points_nowhere", () if may_lose_elsewhere else nowhere),
        *problem("dropped", "drop_holds_other_row", other),
        *problem("dropped", "held_back_told", told),
    ]


def _says_more(row: dict[str, Any], name: str | None) -> bool:
    """Whether a dropped row tells more than whose it is."""
    return bool(row["text"]) or (name is not None and json.loads(row["record"]) != {"id": name})


def check_endings(
    generated: Iterable[str], kept: Iterable[str], lost: Sequence[tuple[dict[str, Any], str | None]]
) -> list[Problem]:
    """Kept or dropped, never both, never neither. A copy that lost to its own id is no second ending."""
    made, left = set(generated), set(kept)
    gone = {name for row, name in lost if row["because_of"] != name}
    return [
        *problem("questions", "question_kept_and_dropped", left & gone),
        *problem("questions", "question_lost", made - left - gone if made else ()),
        *problem("questions", "question_from_nowhere", left - made if made else ()),
    ]
