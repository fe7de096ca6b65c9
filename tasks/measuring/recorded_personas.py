"""What personas cost in accuracy, over recorded answers (Bias Runs Deep, arXiv 2311.04892)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.ids import derived_seed
from tasks.measuring.metrics import figure
from tasks.measuring.recorded_answers import plain_answer, read_csv_rows
from tasks.stats.bootstrap import mean_with_interval
from tasks.stats.mcnemar import mcnemar_p_value
from tasks.stats.shares import share_with_interval

COLUMNS = ("item", "persona", "gold", "response")
INSTRUCTION = "instruction"
"""Column that may say by which instruction the persona was given; each is measured by itself."""


@dataclass(frozen=True)
class PersonaAnswer:
    """One recorded answer; without a persona it belongs to the baseline of every instruction."""

    item: str
    persona: str
    instruction: str
    right: bool
    abstained: bool


def read_personas(path: Path) -> list[PersonaAnswer]:
    """Rows of a CSV file; an empty persona is the baseline. Raises `InputError` for a row without an item or
    without a right answer, and where there is no baseline."""
    answers = [_answer(place, row) for place, row in read_csv_rows(path, COLUMNS)]
    if not any(not a.persona for a in answers):
        raise InputError(
            "there are no answers without a persona",
            place=str(path),
            hint="rows of the baseline have nothing in the column `persona`",
        )
    return answers


def _answer(place: str, row: Mapping[str, str]) -> PersonaAnswer:
    for column in ("item", "gold"):
        if not row[column].strip():
            raise InputError(f"{column} is empty", place=place)
    response = plain_answer(row["response"])
    return PersonaAnswer(
        item=row["item"].strip(),
        persona=row["persona"].strip().lower(),
        instruction=row.get(INSTRUCTION, "").strip() or "all",
        right=bool(response) and response == plain_answer(row["gold"]),
        abstained=not response,
    )


def measure_personas(answers: Sequence[PersonaAnswer]) -> dict[str, Any]:
    """`accuracy` (Wilson) with that of the baseline, `drop` (with McNemar's `p_value`) and `abstention` (rows
    without a response, which solve nothing), by instruction and persona."""
    baseline = _solved([a for a in answers if not a.persona])
    result: dict[str, Any] = {
        "baseline": _accuracy(baseline),
        "accuracy": defaultdict(dict),
        "drop": defaultdict(dict),
        "abstention": defaultdict(dict),
    }
    for instruction, persona in sorted({(a.instruction, a.persona) for a in answers if a.persona}):
        rows = [a for a in answers if (a.instruction, a.persona) == (instruction, persona)]
        solved = _solved(rows)
        result["accuracy"][instruction][persona] = _accuracy(solved)
        result["drop"][instruction][persona] = _drop(baseline, solved, persona, instruction)
        result["abstention"][instruction][persona] = figure(sum(a.abstained for a in rows), n=len(rows))
    return {k: dict(v) if isinstance(v, defaultdict) else v for k, v in result.items()}


def _solved(rows: Sequence[PersonaAnswer]) -> dict[str, bool]:
    """By item: whether most of its answers are right."""
    right: dict[str, list[bool]] = defaultdict(list)
    for a in rows:
        right[a.item].append(a.right)
    return {item: sum(found) * 2 > len(found) for item, found in sorted(right.items())}


def _accuracy(solved: Mapping[str, bool]) -> dict[str, Any]:
    interval = share_with_interval(sum(solved.values()), len(solved))
    if interval is None:
        return figure(None, n=0)
    return figure(interval.value, interval.low, interval.high, n=interval.n)


def _drop(
    baseline: Mapping[str, bool], solved: Mapping[str, bool], persona: str, instruction: str
) -> dict[str, Any]:
    both = [(baseline[item], solved[item]) for item in solved if item in baseline]
    if not both:
        return figure(None, n=0) | {"p_value": None}
    seed = derived_seed("persona", persona, instruction)
    interval = mean_with_interval([float(base) - right for base, right in both], seed)
    p = mcnemar_p_value(sum(b and not r for b, r in both), sum(r and not b for b, r in both))
    return figure(interval.value, interval.low, interval.high, n=len(both)) | {"p_value": p}
