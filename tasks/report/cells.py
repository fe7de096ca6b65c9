"""Count questions by attribute, superdomain and family, and the combinations that they cover."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.answers import RESPONSES, Response
from schemas.errors import InputError
from schemas.labels import DROPPED, Dropped
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from schemas.release import Manifest
from tasks.families.coverage import MAIN_METRICS, answer_status, counts_refusals
from tasks.files.tables import escape_cell
from tasks.questions.cells import recipe_coverage
from tasks.release import HARD_NEGATIVES, Contents
from tasks.report.lost import dropped_questions
from tasks.text.printable import printable

COVERAGE_FILE = "coverage.csv"
"""File of the counts in a release."""
COMBINATIONS_FILE = "combinations.csv"
"""File of the covered combinations, in releases whose recipe has the section `coverage`."""


@dataclass(frozen=True, order=True)
class CellCounts:
    """Questions of one family about one attribute in one superdomain, without controls and rewordings."""

    family: str
    attribute: str
    superdomain: str
    made: int
    """Questions that were written or generated."""
    asked: int
    """Questions that some model was asked."""
    valid: int
    """Asked questions with a usable answer of every model to every version."""
    released: int
    """Questions in `questions` and `hard_negatives`."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `show --json`."""
        return asdict(self)


def release_cells(contents: Contents) -> tuple[CellCounts, ...]:
    """Count the questions of a release."""
    released = [*contents.rows(QUESTIONS), *contents.rows(HARD_NEGATIVES)]
    dropped = contents.rows(DROPPED)
    return count_cells(released, dropped_questions(dropped), contents.scan(RESPONSES), dropped)


def count_cells(
    released: Sequence[Question],
    lost: Sequence[Question],
    responses: Iterable[Response],
    dropped: Iterable[Dropped] = (),
) -> tuple[CellCounts, ...]:
    """Count questions by family, attribute and superdomain.

    Args:
        released: Questions in `questions` and `hard_negatives`.
        lost: Dropped questions.
        responses: Released answers.
        dropped: Dropped rows. Answers to dropped questions are among them.
    """
    made = {q.id: q for q in [*lost, *released] if q.control == "none" and q.variant_of is None}
    kept = {q.id for q in released}
    usable: dict[str, dict[tuple[str, int], bool]] = defaultdict(dict)
    gone = (Response.model_validate_json(d.record) for d in dropped if d.kind == "response")
    for r in chain(responses, gone):
        if (q := made.get(r.question_id)) is not None:
            good = {"read", "refused"} if counts_refusals(q.family, MAIN_METRICS[q.family]) else {"read"}
            cell = usable[q.id]
            cell[r.model, r.variant] = cell.get((r.model, r.variant), False) or answer_status(q, r) in good
    counts: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for q in made.values():
        answers = usable.get(q.id, {})
        row = counts[q.family, q.attribute, q.superdomain]
        models = {model for model, _ in answers}
        valid = bool(models) and all(answers.get((m, v.index)) for m in models for v in q.variants)
        for i, holds in enumerate((True, bool(models), valid, q.id in kept)):
            row[i] += holds
    return tuple(CellCounts(*key, *row) for key, row in sorted(counts.items()))


@dataclass(frozen=True)
class Combinations:
    """Combinations of some dimensions of the search space that released questions have."""

    dimensions: str
    covered: int
    valid: int
    """Combinations that the recipe and the taxonomy allow."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `show --json`."""
        return asdict(self)


def release_combinations(manifest: Manifest, contents: Contents, data_dir: Path) -> tuple[Combinations, ...]:
    """Count the combinations that the gate checks. There are none without the section `coverage`.

    A release whose recipe or taxonomy this program does not know has none, either.
    """
    if not manifest.recipe.get("coverage"):
        return ()
    with suppress(InputError, ValidationError):
        recipe = Recipe.model_validate(manifest.recipe)
        measured = recipe_coverage(recipe, contents.rows(QUESTIONS), data_dir)
        return tuple(Combinations(" x ".join(m.dimensions), m.covered, m.valid) for m in measured)
    return ()


def write_combinations(combinations: Iterable[Combinations]) -> str:
    """Return the counts as CSV."""
    return _write_csv([f.name for f in fields(Combinations)], map(astuple, combinations))


def write_cells(cells: Iterable[CellCounts]) -> str:
    """Return the counts as CSV."""
    return _write_csv([f.name for f in fields(CellCounts)], map(astuple, cells))


def _write_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([escape_cell(printable(value)) if isinstance(value, str) else value for value in row])
    return text.getvalue()
