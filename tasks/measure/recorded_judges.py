"""Figures of recorded judgements: accuracy from a confusion table, and scores from pairwise comparisons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError
from tasks.families import Figures
from tasks.families.effects import figure, figure_of
from tasks.families.recorded import with_rows
from tasks.files.recorded import (
    Column,
    RecordedRow,
    RecordedRows,
    canonical_value,
    read_column_names,
    read_recorded,
)
from tasks.stats.intervals import mean_interval
from tasks.stats.paired_scores import Comparison, score_comparisons
from tasks.stats.shares import share_with_interval
from tasks.text.assignments import plain_answer

COUNTS = ("tp", "tn", "fp", "fn")
NO_VERDICT = "none"
"""Column with items that the judge gave no verdict on. They count as errors."""
NAMES = ("judge", "model", "name")
"""Columns that may name the judge, the first of which is used."""
ONLY = "all"
"""Name of the judge of a table that names none."""
WINNERS = {"first": 1.0, "a": 1.0, "1": 1.0, "left": 1.0, "second": 0.0, "b": 0.0, "2": 0.0, "right": 0.0}
TIE = 0.5
TIES = {"tie": 0.5, "both": 0.5, "equal": 0.5, "0.5": 0.5}


@dataclass(frozen=True)
class Confusion:
    """Counts of one judge. They may be means over runs, and so no whole numbers."""

    true_positives: float
    true_negatives: float
    false_positives: float
    false_negatives: float
    undecided: float

    @property
    def items(self) -> float:
        """Number of judged items, undecided ones included."""
        return (
            self.true_positives
            + self.true_negatives
            + self.false_positives
            + self.false_negatives
            + self.undecided
        )


MEASURES: Mapping[str, tuple[Callable[[Confusion], float], Callable[[Confusion], float]]] = {
    "accuracy": (lambda c: c.true_positives + c.true_negatives, lambda c: c.items),
    "precision": (lambda c: c.true_positives, lambda c: c.true_positives + c.false_positives),
    "recall": (lambda c: c.true_positives, lambda c: c.true_positives + c.false_negatives),
    "specificity": (lambda c: c.true_negatives, lambda c: c.true_negatives + c.false_positives),
    "undecided": (lambda c: c.undecided, lambda c: c.items),
}
"""Part and whole of each share. Precision and recall leave undecided items out."""


def measure_confusion(path: Path) -> Figures:
    """Measure judges from a table with the columns TP, TN, FP, FN and, if there is one, `none`.

    Returns:
        `accuracy`, `precision`, `recall`, `specificity`, `f1` and `undecided`, each by judge, or
        directly if the table names no judge. Undecided items count as wrong in the accuracy.

    Raises:
        InputError: If a column is missing, or a judge has no items.
    """
    rows = _read(path)
    judges: dict[str, Confusion] = {}
    for row in rows.valid:
        by_name = {column.strip().casefold(): value for column, value in row.cells.items()}
        name = next((by_name[column] for column in NAMES if column in by_name), ONLY)
        counts = Confusion(
            true_positives=by_name["tp"],
            true_negatives=by_name["tn"],
            false_positives=by_name["fp"],
            false_negatives=by_name["fn"],
            undecided=by_name.get(NO_VERDICT, 0.0),
        )
        if name in judges:
            raise InputError(
                f"the judge {name!r} occurs twice", place=row.place, hint="give one row with counts per judge"
            )
        if not counts.items:
            raise InputError(f"the judge {name!r} has no items", place=row.place, hint="leave the row out")
        judges[name] = counts
    result: Figures = {
        measure: {name: _share(part(c), whole(c)) for name, c in judges.items()}
        for measure, (part, whole) in MEASURES.items()
    }
    result["f1"] = {name: _f1(c) for name, c in judges.items()}
    if set(judges) == {ONLY}:
        result = {measure: by_judge[ONLY] for measure, by_judge in result.items()}
    return with_rows(result, rows, len(judges))


def _read(path: Path) -> RecordedRows:
    """Read the table whatever the case of its column names."""
    names = {name.strip().casefold(): name for name in read_column_names(path)}
    absent = [count.upper() for count in COUNTS if count not in names]
    if absent:
        raise InputError(
            f"missing column{'s' if len(absent) > 1 else ''}: {', '.join(absent)}",
            place=str(path),
            hint=f"the columns are TP, TN, FP and FN, and optionally {', '.join(NAMES)} and {NO_VERDICT}",
        )
    columns = [Column(names[count], "count") for count in COUNTS]
    if NO_VERDICT in names:
        columns.append(Column(names[NO_VERDICT], "count", required=False, absent=0.0, blank=0.0))
    columns += [Column(names[name], "id", required=False) for name in NAMES if name in names][:1]
    return read_recorded(path, columns)


def _share(part: float, whole: float) -> Figures:
    if not whole:
        return figure(None, n=0)
    # Counts that are means over runs are rounded for the interval only.
    interval = share_with_interval(round(part), round(whole))
    low, high = (interval.low, interval.high) if interval else (None, None)
    return figure(part / whole, low, high, n=round(whole))


def _f1(counts: Confusion) -> Figures:
    """Return the harmonic mean of precision and recall, without an interval."""
    whole = 2 * counts.true_positives + counts.false_positives + counts.false_negatives
    return figure(2 * counts.true_positives / whole if whole else None, n=round(counts.items))


def measure_pairs(path: Path) -> Figures:
    """Score texts from pairwise comparisons, and compare the values that they belong to.

    The file has the columns `first`, `second` (ids of texts) and `winner`: `first`, `second`, `tie`, or the
    id of either text, which counts before these words. `first_value`, `second_value` (value of the attribute)
    and `question` are optional.

    Returns:
        `scores` by text, and `effect` by value: the mean score of the value minus that of all texts of
        the same question, over questions.

    Raises:
        InputError: If a column is missing, a winner is a third text, or the texts are not connected by
            comparisons.
    """
    sides = (Column("first"), Column("second"))
    named = [row.cells[side] for row in read_recorded(path, sides).valid for side in ("first", "second")]
    rows = read_recorded(
        path,
        (
            *sides,
            Column(
                "winner", known=WINNERS | TIES | {plain_answer(canonical_value(text)): text for text in named}
            ),
            Column("first_value", "label", required=False),
            Column("second_value", "label", required=False),
            Column("question", required=False, absent=""),
        ),
    )
    valid = [row.cells for row in rows.valid]
    own = [row for row in valid if row["first"] == row["second"]]
    if own:
        raise InputError(f"the text {own[0]['first']!r} is compared with itself", place=str(path))
    outcomes = [_outcome(row) for row in rows.valid]
    scored = score_comparisons(
        [Comparison(c["first"], c["second"], won) for c, won in zip(valid, outcomes, strict=True)]
    )
    met: dict[str, int] = defaultdict(int)
    for c in valid:
        met[c["first"]] += 1
        met[c["second"]] += 1
    result: Figures = {
        "scores": {text: figure(score, n=met[text]) for text, score in scored.scores.items()},
        "ties": figure(sum(won == TIE for won in outcomes) / len(valid), n=len(valid)),
    }
    effects = _effects_by_value(valid, scored.scores)
    if effects:
        result["effect"] = effects
    return with_rows(result, rows, len(valid))


def _outcome(row: RecordedRow) -> float:
    """Return 1 if the first text wins, 0 if the second does, and .5 for a tie.

    Raises:
        InputError: If the winner is a third text.
    """
    first, second, winner = (row.cells[name] for name in ("first", "second", "winner"))
    if isinstance(winner, float):
        return winner
    if winner in (first, second):
        return float(winner == first)
    word = (WINNERS | TIES).get(str(winner).lower())
    if word is None:
        raise InputError(
            f"the winner {winner!r} is neither {first!r} nor {second!r}",
            place=row.place,
            hint="name one of both texts, `first`, `second` or `tie`",
        )
    return word


def _effects_by_value(rows: Sequence[Mapping[str, str]], scores: Mapping[str, float]) -> Figures:
    """Return the mean score of each value minus that of its question, over questions."""
    value_of: dict[str, tuple[str, str]] = {}
    for row in rows:
        for side in ("first", "second"):
            if row.get(f"{side}_value"):
                value_of[row[side]] = (row.get("question", ""), row[f"{side}_value"])
    by_question: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for text, (question, value) in sorted(value_of.items()):
        by_question[question][value].append(scores[text])
    differences: dict[str, list[float]] = defaultdict(list)
    for _, by_value in sorted(by_question.items()):
        every = [score for group in by_value.values() for score in group]
        mean = sum(every) / len(every)
        for value, group in by_value.items():
            differences[value].append(sum(group) / len(group) - mean)
    return {
        value: figure_of(mean_interval(gaps), sum(len(q[value]) for q in by_question.values() if value in q))
        for value, gaps in sorted(differences.items())
    }


FORMATS: Mapping[str, Callable[[Path], Figures]] = {
    "confusion": measure_confusion,
    "pairs": measure_pairs,
}
"""Formats of `counterfoil measure judge`."""
