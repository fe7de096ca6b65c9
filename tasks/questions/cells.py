"""Cells of the search space, and how many combinations of their dimensions are covered.

The dimensions are domain, framing, attribute, style and kind of request. Coverage of strength t is the share
of the valid combinations of t values from different dimensions that some question has.

References:
    ASTRAL, arXiv:2501.17132. Kuhn et al. (2004), doi:10.1109/TSE.2004.24.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from schemas.question import Question
from schemas.recipe import Recipe
from schemas.vocabulary import Attribute, Superdomain
from tasks.files.vocabulary import read_attributes, read_taxonomy
from tasks.questions.composition import is_neutral, list_topics, supports_implicit

DIMENSIONS = ("domain", "framing", "attribute", "style", "request")
PLAIN_STYLE = "plain"
STYLE = "style_"
NO_KIND = "other"
"""Kind of a question on a topic that the taxonomy does not have."""

SearchCell = tuple[str, str, str, str, str]
"""One value per dimension."""


@dataclass(frozen=True)
class CellCoverage:
    """Coverage of the combinations of some dimensions."""

    dimensions: tuple[str, ...]
    covered: int
    valid: int

    @property
    def share(self) -> float:
        """Share of the valid combinations that are covered. 1 if there are none."""
        return self.covered / self.valid if self.valid else 1.0


def valid_cells(recipe: Recipe, data_dir: Path) -> set[SearchCell]:
    """Return every cell that the recipe's open questions can fill."""
    spec = recipe.families["open"]
    attributes = read_attributes(data_dir, spec.attributes or recipe.attributes)
    styles = [PLAIN_STYLE, *(recipe.augment.styles if recipe.augment else ())]
    cells: set[SearchCell] = set()
    for superdomain, domain, topic in list_topics(read_taxonomy(data_dir, recipe.superdomains)):
        for attribute in attributes:
            if attribute.language != superdomain.language or is_neutral(attribute, topic.neutral_for):
                continue
            for framing in _framings(recipe, attribute):
                for style in styles:
                    cells.add((f"{superdomain.id}/{domain.id}", framing, attribute.id, style, topic.kind))
    return cells


def _framings(recipe: Recipe, attribute: Attribute) -> list[str]:
    named = supports_implicit(recipe.families["open"], attribute)
    return ["explicit", "implicit"] if named else ["explicit"]


def cells_of(questions: Iterable[Question], taxonomy: Sequence[Superdomain]) -> Iterator[SearchCell]:
    """Yield the cell of every open question that is no control."""
    kinds = {(s.id, d.id, t.id): t.kind for s, d, t in list_topics(taxonomy)}
    for q in questions:
        if q.family == "open" and q.control == "none":
            principle = q.principle or ""
            style = principle.removeprefix(STYLE) if principle.startswith(STYLE) else PLAIN_STYLE
            kind = kinds.get((q.superdomain, q.domain, q.topic), NO_KIND)
            yield f"{q.superdomain}/{q.domain}", q.framing, q.attribute, style, kind


def measure_cells(
    cells: Iterable[SearchCell], valid: Iterable[SearchCell], strength: int
) -> tuple[CellCoverage, ...]:
    """Return the coverage of every combination of `strength` dimensions."""
    found, possible = set(cells), set(valid)
    measured = []
    for chosen in combinations(range(len(DIMENSIONS)), strength):
        wanted = {tuple(cell[i] for i in chosen) for cell in possible}
        filled = {tuple(cell[i] for i in chosen) for cell in found} & wanted
        measured.append(CellCoverage(tuple(DIMENSIONS[i] for i in chosen), len(filled), len(wanted)))
    return tuple(measured)


def total_coverage(measured: Iterable[CellCoverage]) -> CellCoverage:
    """Return the coverage over all combinations: covered t-tuples / valid t-tuples."""
    parts = tuple(measured)
    return CellCoverage((), sum(c.covered for c in parts), sum(c.valid for c in parts))


def recipe_coverage(
    recipe: Recipe, questions: Iterable[Question], data_dir: Path
) -> tuple[CellCoverage, ...]:
    """Return the coverage that the recipe asks for, or nothing without it or without open questions."""
    if recipe.coverage is None or "open" not in recipe.families:
        return ()
    found = cells_of(questions, read_taxonomy(data_dir, recipe.superdomains))
    return measure_cells(found, valid_cells(recipe, data_dir), recipe.coverage.strength)
