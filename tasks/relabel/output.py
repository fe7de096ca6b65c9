"""Prepare relabelled rows for their format: soft labels, fixed widths, and rows without a place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from tasks.files.parallel_lists import LISTS
from tasks.files.records import Record
from tasks.files.retrieval import losses_of
from tasks.files.retrieval_pairs import tuple_width, write_n_tuple
from tasks.files.retrieval_rows import layout_of, with_extra, write_tevatron
from tasks.relabel.decisions import RelabelledRow
from tasks.relabel.same_text import match_key

FIXED_WIDTH = ("n-tuple", "triplet", "msmarco")
"""Formats of which `--exactly` sets the number of negatives."""
SOFT_LABEL_FORMATS = (
    *("flagembedding", "tevatron", "rlhn", "rankllm", "n-tuple", "labeled-pair", "labeled-list"),
)
WITHOUT_A_PLACE = "rows without a positive or a negative"
TOO_FEW = "rows with too few negatives for the width"


# --- soft labels ------------------------------------------------------------------------------------------


def check_soft_labels(out_format: str, has_grades: bool) -> None:
    """Raise `InputError` if the format cannot hold soft labels, or if no grades are given."""
    if not has_grades:
        raise InputError(
            "soft labels need grades or scores",
            hint="use --strategy graded with models, --verdicts with grades, or --strategy score",
        )
    if out_format not in SOFT_LABEL_FORMATS:
        raise InputError(
            f"{out_format} has no field for soft labels", hint=f"use {', '.join(SOFT_LABEL_FORMATS)}"
        )


def with_soft_labels(row: RelabelledRow, out_format: str, judge: str) -> RelabelledRow:
    """Return a row with a probability, mean grade or score per passage, in the field of the format.

    `scores_by` names the judge. A passage without any grade has the label null.
    """
    if row.after is None:
        return row
    labels = row.soft_labels

    def label(passage: Passage) -> Passage:
        value = labels.get(match_key(passage.text))
        value = None if value is None else round(value, 6)
        layout: dict[str, Any] = {"soft": value, "score": None}
        columns: dict[str, Any] = {}
        if out_format == "n-tuple":
            layout[LISTS] = layout_of(passage).get(LISTS, {}) | {"scores": value}
        elif out_format in ("tevatron", "rlhn"):
            columns["score"] = value
        return with_extra(passage.model_copy(update={"score": value}), layout, columns)

    layout: dict[str, Any] = {"has": None}
    if out_format == "n-tuple":
        layout[LISTS] = layout_of(row.after).get(LISTS, {}) | {"scores": "all"}
    if out_format == "flagembedding":
        had = layout_of(row.after).get("has", [])
        ids = [name for name in had if name.endswith("_id")]
        layout["has"] = ["pos_scores", "neg_scores", *ids] if "has" in layout_of(row.after) else None
    sides = {side: tuple(map(label, getattr(row.after, side))) for side in ("positives", "negatives")}
    columns = {} if out_format == "labeled-pair" else {"scores_by": judge}
    return replace(row, after=with_extra(row.after.model_copy(update=sides), layout, columns))


# --- rows that fit the format -----------------------------------------------------------------------------


@dataclass
class Fitting:
    """The rows that a format can hold.

    N-tuples of the input keep their number of negatives, because trainers read columns of one length. If no
    row keeps it, the largest number that a row has left is used.
    """

    sets: Callable[[], Iterable[CandidateSet]]
    out_format: str
    in_format: str
    exactly: int | None = None
    lost: Counter[str] = field(default_factory=Counter)
    """Rows without a place by reason, counted by `prepare`."""
    negatives_cut: int = 0
    """Negatives beyond the exact number."""
    rows_written: int = 0
    _narrowed: int | None = None
    """Number of negatives if no row keeps the number of the input."""

    @property
    def warnings(self) -> list[str]:
        """Warnings about the width, and about a result without rows."""
        warnings = []
        if self._narrowed is not None:
            warnings.append(f"no row keeps all its negatives; the rows are written with {self._narrowed}")
        if self.lost and not self.rows_written:
            warnings.append("no row fits the format, so that the result is empty")
        return warnings

    def prepare(self) -> None:
        """Read the rows once: choose the width, and count the rows without a place."""
        if self.out_format == self.in_format == "n-tuple" and self.exactly is None:
            rows = [(tuple_width(row), len(row.negatives)) for row in self.sets()]
            wide = [(width, count) for width, count in rows if width is not None]
            if wide and not any(count >= width for width, count in wide):
                self._narrowed = max(count for _, count in wide) or None
        for row in self.sets():
            reason = self._reason(row)
            if reason is None:
                self.rows_written += 1
                self.negatives_cut += max(0, len(row.negatives) - (self._width(row) or len(row.negatives)))
            else:
                self.lost[reason] += 1

    def fitting(self) -> Iterator[CandidateSet]:
        """Yield the rows that the format holds, with surplus negatives cut."""
        for row in self.sets():
            if self._reason(row) is None:
                width = self._width(row)
                cut = row.negatives if width is None else row.negatives[:width]
                yield row if len(cut) == len(row.negatives) else row.model_copy(update={"negatives": cut})

    def unwritable(self) -> Iterator[Record]:
        """Yield the other rows for a side file: as n-tuples if they are some, else in Tevatron's form."""
        for row in self.sets():
            reason = self._reason(row)
            if reason is not None:
                records = list(write_n_tuple(row)) if self.out_format == "n-tuple" else []
                yield from (record | {"reason": reason} for record in records or [write_tevatron(row)])

    def _reason(self, row: CandidateSet) -> str | None:
        if losses_of(row, self.out_format).get(WITHOUT_A_PLACE):
            return WITHOUT_A_PLACE
        width = self._width(row)
        return TOO_FEW if width is not None and len(row.negatives) < width else None

    def _width(self, row: CandidateSet) -> int | None:
        if self.out_format not in FIXED_WIDTH:
            return None
        if self.exactly is not None:
            return self.exactly
        if self.out_format == self.in_format == "n-tuple":
            width = tuple_width(row)
            return width if self._narrowed is None or width is None else self._narrowed
        return None
