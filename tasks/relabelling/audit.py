"""A sheet for people: some candidates to label by hand, and how far the judges agree with that.

The sheet does not say what the judges decided. Which candidates are on it depends on their content only, so
that the same file gives the same sheet. Cells that a spreadsheet would take for a formula get an apostrophe.
"""

from __future__ import annotations

import csv
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.ids import content_hash
from tasks.formats.csv_file import write_csv
from tasks.formats.text_file import open_text
from tasks.relabelling.changes import RelabelledRow

COLUMNS = ("row", "docid", "query", "passage", "answers")
ANSWERS = {"yes": 1, "y": 1, "1": 1, "no": 0, "n": 0, "0": 0}


@dataclass(frozen=True, order=True, slots=True)
class AuditLine:
    """One candidate, and whether the judges took it for an answer (`None`: they abstained)."""

    draw: str
    row: str
    docid: str
    query: str
    passage: str
    judged: int | None


def audit_lines(rows: Iterable[RelabelledRow]) -> Iterator[AuditLine]:
    """Every candidate that a judge had a say in."""
    for row in rows:
        for at, (passage, verdict) in enumerate(zip(row.before.negatives, row.verdicts, strict=True)):
            if at in row.rule_decided:
                continue
            judged = {"abstained": None, "kept": int(verdict.evidence is not None)}.get(verdict.outcome, 1)
            draw = content_hash(["audit", row.before.id, passage.id])
            yield AuditLine(draw, row.before.id, passage.id, row.before.query, passage.text, judged)


def draw_lines(lines: Iterable[AuditLine], count: int) -> list[AuditLine]:
    """A random sample by content: the smallest hashes. Samples of parts can be drawn from again."""
    return heapq.nsmallest(count, lines)


def write_sheet(path: Path, lines: Iterable[AuditLine]) -> None:
    """A CSV with an empty column `answers`, to be filled with yes or no."""
    write_csv(
        path,
        COLUMNS,
        (dict(zip(COLUMNS, (x.row, x.docid, x.query, x.passage, ""), strict=True)) for x in lines),
    )


def read_sheet(path: Path) -> dict[tuple[str, str], int]:
    """What people answered, by (row, docid). Lines that nobody filled in are left out."""
    found: dict[tuple[str, str], int] = {}
    with open_text(path) as stream:
        reader = csv.DictReader(stream)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise InputError(f"the sheet has no column {sorted(missing)[0]!r}", place=f"{path}:1")
        for record in reader:
            answer = (record["answers"] or "").strip().lower()
            if answer and answer not in ANSWERS:
                place = f"{path}:{reader.line_num}"
                raise InputError(f"not an answer: {answer[:40]!r}", place=place, hint="write yes or no")
            if answer:
                key = (record["row"].removeprefix("'"), record["docid"].removeprefix("'"))
                if found.setdefault(key, ANSWERS[answer]) != ANSWERS[answer]:
                    place = f"{path}:{reader.line_num}"
                    raise InputError(f"{key[1]!r} is answered yes and no", place=place, hint="keep one line")
    return found


def compare_with_people(lines: Iterable[AuditLine], answers: dict[tuple[str, str], int]) -> dict[str, Any]:
    """Cohen's kappa and the share of equal answers; abstentions of the judges are counted apart."""
    from tasks.stats.agreement import weighted_kappa

    both = [
        (line.judged, answers[line.row, line.docid]) for line in lines if (line.row, line.docid) in answers
    ]
    decided = [(judged, human) for judged, human in both if judged is not None]
    kappa = weighted_kappa([j for j, _ in decided], [h for _, h in decided]) if decided else float("nan")
    return {
        "kappa": None if kappa != kappa else kappa,
        "agreement": sum(j == h for j, h in decided) / len(decided) if decided else None,
        "n": len(decided),
        "abstained": len(both) - len(decided),
    }
