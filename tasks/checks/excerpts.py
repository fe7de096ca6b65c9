"""What the failing rows say, for the eyes of a person: an id alone explains nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from schemas.decision import DROPPED
from schemas.question import QUESTIONS
from schemas.response import RESPONSES
from tasks.checks.columns import column, lookup
from tasks.checks.findings import Excerpts, Problem

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
