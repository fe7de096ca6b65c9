"""Gather: the tables of several steps become one. A row that stands in more than one counts once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.decision import DROPPED, Dropped
from schemas.judgement import JUDGEMENTS
from schemas.label import LABEL_HISTORY
from schemas.question import QUESTIONS
from schemas.response import RESPONSES
from schemas.tables import Row, Table
from tasks.store import Outcome, RunContext, Stage, TableRef, read_table

TABLES: dict[str, Table[Any]] = {
    table.name: table for table in (QUESTIONS, RESPONSES, JUDGEMENTS, LABEL_HISTORY, DROPPED)
}


def gather(context: RunContext, parts: Sequence[TableRef]) -> Outcome:
    """One table of all rows of the parts, in the order of their keys; of equal keys the last part wins.

    `parts` hold one kind of table. Raises `ValueError` for none, or for a mixture.
    """
    (name,) = {part.table for part in parts}
    table = TABLES[name]
    rows: dict[str, Row] = {}
    for part in parts:
        for row in read_table(part, table):
            rows[getattr(row, table.key)] = row
    ordered = [rows[key] for key in sorted(rows)]
    if table is DROPPED:
        return Outcome(tables={}, counts=(), dropped=tuple(r for r in ordered if isinstance(r, Dropped)))
    return Outcome(tables={table: ordered}, counts=())


STAGE = Stage("gather", 1, run=gather)
