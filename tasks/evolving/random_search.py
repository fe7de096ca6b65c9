"""Strategy `random`: no memory of what was found. The baseline that the others are compared with."""

from __future__ import annotations

from schemas.ids import derived_seed
from tasks.evolving.jobs import Job, Search


def at_random(search: Search) -> list[Job]:
    """Every job in a domain drawn by seed, all domains alike, without a parent."""
    units = sorted(search.units)
    draws = (derived_seed(search.seed, "random", i) % len(units) for i in range(search.questions))
    return [Job(units[draw], "explore") for draw in draws] if units else []
