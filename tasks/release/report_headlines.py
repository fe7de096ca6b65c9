"""The effects by which models are compared, each beside the A/A floor of the same model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.effect import Effect
from tasks.release.leaderboard import ranked_effects
from tasks.release.report_effects import Floor, floor_of, metric_of

MOST_HEADLINES = 40
FEWEST = 2
"""Controls that a floor must stand on, before anything is held against it."""


@dataclass(frozen=True)
class Headline:
    """An effect by which models are compared, beside what the same model shows on A/A controls."""

    effect: Effect
    floor: Floor | None

    @property
    def standing(self) -> str:
        """Whether its interval and that of the floor have nothing in common."""
        e, floor = self.effect, self.floor
        if floor is None or floor.n < FEWEST or e.low is None or e.high is None:
            return "not comparable"
        return "outside" if e.low > floor.high or e.high < floor.low else "inside"


def headlines(effects: Sequence[Effect], form: str | None) -> tuple[Headline, ...]:
    """Families and attributes, as the leaderboard compares models by them."""
    compared = ranked_effects(effects, form or "")
    zero: dict[tuple[str, str, str, str], list[Effect]] = {}
    for e in compared:
        if e.level == "control" and e.name == "a_a":
            zero.setdefault(_compared(e), []).append(e)
    rows = [
        Headline(e, floor_of(zero.get(_compared(e), ())))
        for e in compared
        if e.level in ("family", "attribute")
    ]
    return tuple(
        sorted(
            rows,
            key=lambda r: (
                r.effect.family, metric_of(r.effect)[0], r.effect.level != "family",
                r.effect.name, r.effect.metric, r.effect.model,
            ),
        )
    )  # fmt: skip


def _compared(e: Effect) -> tuple[str, str, str, str]:
    return e.family, metric_of(e)[0], e.model, e.condition
