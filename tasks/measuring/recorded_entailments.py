"""Bias and brittleness over recorded entailment labels, for BBNLI's statements (arXiv 2305.12620)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.ids import derived_seed
from tasks.measuring.metrics import figure
from tasks.measuring.recorded_answers import plain_answer, read_csv_rows
from tasks.stats.bootstrap import cluster_bootstrap
from tasks.stats.entailment import (
    CONTRADICTION,
    ENTAILMENT,
    NEUTRAL,
    Labelled,
    accuracy_of,
    beyond_brittleness_of,
    bias_of,
    brittleness_of,
    totals_of,
)

COLUMNS = ("name", "item", "stereotype", "wording", "response")
"""Stereotype, statement within it, the label that it predicts, the wording (0: the original), the answer."""
SPELLINGS = {
    ENTAILMENT: ("entailment", "entails", "yes", "true", "2"),
    NEUTRAL: ("neutral", "maybe", "undetermined", "1"),
    CONTRADICTION: ("contradiction", "contradicts", "no", "false", "0"),
}
"""Labels as they are written; the numbers are BBNLI's."""
LABEL_OF = {spelling: label for label, spellings in SPELLINGS.items() for spelling in spellings}
SIDE_OF = {ENTAILMENT: 1, CONTRADICTION: -1}


def read_entailments(path: Path) -> list[Labelled]:
    """Rows of a CSV file; a response that is no label is kept without one. Raises `InputError` for a row
    that does not say what the stereotype predicts, or which wording it is."""
    found = [_labelled(place, row) for place, row in read_csv_rows(path, COLUMNS)]
    if not found:
        raise InputError("there are no answers in the file", place=str(path))
    return found


def _labelled(place: str, row: Mapping[str, str]) -> Labelled:
    side = SIDE_OF.get(LABEL_OF.get(plain_answer(row["stereotype"]), ""))
    if side is None:
        raise InputError(
            f"stereotype is {row['stereotype'][:40]!r}",
            place=place,
            hint="it must be the label that the stereotype predicts: entailment or contradiction",
        )
    if not row["wording"].strip().isdecimal():
        raise InputError(
            f"wording is {row['wording'][:40]!r}", place=place, hint="0 is the original, 1, 2, … rewordings"
        )
    label = LABEL_OF.get(plain_answer(row["response"]))
    return Labelled(
        cluster=row["name"].strip(),
        statement=row["item"].strip(),
        side=side,
        wording=int(row["wording"]),
        labels=(label,) if label else (),
    )


def measure_entailments(labelled: Sequence[Labelled]) -> dict[str, Any]:
    """Each metric with its interval by stereotype; `invalid`: rows without a label, never scored."""
    totals = totals_of(labelled)
    n = sum(len(x.labels) for x in labelled)
    result: dict[str, Any] = {}
    for metric, statistic in (
        ("accuracy", accuracy_of),
        ("bias", bias_of),
        ("brittleness", brittleness_of),
        ("bias_beyond_brittleness", beyond_brittleness_of),
    ):
        if not len(totals):
            result[metric] = figure(None, n=0)
            continue
        interval = cluster_bootstrap(totals, statistic, derived_seed("entailment", metric))
        result[metric] = figure(interval.value, interval.low, interval.high, n=n, clusters=interval.n)
    return result | {"invalid": figure(len(labelled) - n, n=len(labelled))}
