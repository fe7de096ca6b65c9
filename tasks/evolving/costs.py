"""What the models of a round cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from schemas.manifest import StageCost
from tasks.models.structured import Spent


def costs_of_calls(calls: Iterable[tuple[str, Spent]]) -> tuple[StageCost, ...]:
    """(model, what one call cost), summed by model; sorted by its name."""
    by_model: dict[str, list[Spent]] = defaultdict(list)
    for model, spent in calls:
        by_model[model].append(spent)
    return tuple(
        StageCost(
            stage="mutate",
            model=model,
            calls=sum(s.tries for s in found),
            tokens_in=sum(s.tokens_in for s in found),
            tokens_out=sum(s.tokens_out for s in found),
            cost_usd=round(sum(s.cost_usd for s in found), 6),
        )
        for model, found in sorted(by_model.items())
    )
