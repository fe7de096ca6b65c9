"""Whether a release may be trusted: the few things that decide it, each with how it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from schemas.effect import Effect
from schemas.manifest import Manifest
from schemas.recipe import Recipe
from tasks.auditing.standing import audit_warnings, deciding_judges
from tasks.release.facts import Floor, Shrinkage, judge_kind
from tasks.release.report_effects import SELECTION

Standing = Literal["holds", "mind", "fails", "absent"]
"""As it should be; to be minded; not as it must be; nothing is known."""
TOLERATED = 2.0
"""Per cent of failed calls and of abstentions that nobody needs to mind."""


@dataclass(frozen=True)
class Panel:
    """The judges that decide, and what is known of them."""

    judges: int
    passed: int
    warnings: tuple[str, ...]
    """In words: who was not audited, and in what one is below the bar."""


def panel_of(manifest: Manifest) -> Panel:
    """Judges that pass are those that no warning names."""
    recipe = Recipe.model_validate(manifest.recipe)
    judges = deciding_judges(recipe)
    warnings = audit_warnings(recipe, manifest.passports)
    named = [j for j in judges if any(w.startswith((f"{j}: ", f"{j} ")) for w in warnings)]
    return Panel(len(judges), len(judges) - len(named), warnings)


def selection_effects(effects: Sequence[Effect]) -> dict[str, Effect]:
    """What the search itself shows, by metric: `search_fitness`, `holdout_fitness`, `shrinkage`; of the first
    family by name."""
    found = sorted((e for e in effects if e.name == SELECTION), key=lambda e: (e.family, e.id), reverse=True)
    return {e.metric: e for e in found}


def standings(
    manifest: Manifest,
    panel: Panel,
    floor: Floor | None,
    accepted: Sequence[float],
    shrinkage: Shrinkage | None,
    selection: Mapping[str, Effect],
    lost: Sequence[float],
) -> dict[str, Standing]:
    """How each of them stands. `lost`: per cent of calls that failed and of verdicts that were not given."""
    review = manifest.review
    return {
        "gate": _gate(manifest),
        "judges": _judges(manifest, panel),
        "floor": _floor(floor, accepted),
        "shrinkage": _shrinkage(floor, shrinkage, selection.get("holdout_fitness")),
        "people": "absent" if review is None else "mind" if review.contested else "holds",
        "losses": "mind" if max(lost, default=0.0) > TOLERATED else "holds",
    }


def _gate(manifest: Manifest) -> Standing:
    if manifest.validation.get("errors"):
        return "fails"
    return "mind" if manifest.validation.get("warnings") else "holds"


def _judges(manifest: Manifest, panel: Panel) -> Standing:
    """A statistic alone is a screen, however well it does."""
    if not panel.judges:
        return "absent"
    return "mind" if panel.warnings or judge_kind(manifest.judged_by) == "divergence" else "holds"


def _floor(floor: Floor | None, accepted: Sequence[float]) -> Standing:
    if floor is None or not accepted:
        return "absent"
    return "holds" if median(accepted) > floor.value else "mind"


def _shrinkage(floor: Floor | None, shrinkage: Shrinkage | None, holdout: Effect | None) -> Standing:
    """Good is what stays above nothing, and above the controls, on fresh samples."""
    if shrinkage is None:
        return "absent"
    low = holdout.low if holdout is not None and holdout.low is not None else shrinkage.holdout
    return "holds" if low > 0 and shrinkage.holdout > (floor.value if floor else 0.0) else "mind"
