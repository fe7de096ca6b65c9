"""Strategies of the search, one file each: what was found so far becomes the jobs of the next round.

A strategy is a function `(Search) -> list[Job]` without state: the archive is its whole memory. It plans
`search.questions` jobs (none where there is no domain at all) and draws by `search.seed` only, whatever the
order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from schemas.recipe import Strategy
from tasks.evolving.jobs import Job, Search, number_jobs, spread_attributes
from tasks.evolving.map_elites import by_map_elites
from tasks.evolving.quotas import by_quotas
from tasks.evolving.random_search import at_random
from tasks.evolving.thompson import by_thompson

STRATEGIES: Mapping[Strategy, Callable[[Search], list[Job]]] = {
    "quotas": by_quotas,
    "map_elites": by_map_elites,
    "thompson": by_thompson,
    "random": at_random,
}


def plan_jobs(strategy: Strategy, search: Search) -> list[Job]:
    """The jobs of the next round, each with its attribute and number. `KeyError` for an unknown strategy."""
    return number_jobs(spread_attributes(STRATEGIES[strategy](search), search))
