"""Strategy `quotas`: more is asked where more was found (CAB, arXiv 2510.12857).

The arithmetic is in `tasks.stats.quotas`; here its plan becomes jobs.
"""

from __future__ import annotations

from tasks.evolving.jobs import Job, Search, explore_anew, explore_known, jobs_inside
from tasks.stats.quotas import plan_by_quotas, round_history


def by_quotas(search: Search) -> list[Job]:
    """Quotas by superdomain and domain, operators by their shares inside each; what is left over explores:
    new domains where a model proposes them, else those of the taxonomy, unseen ones first."""
    history = round_history(search.archive)
    if not history:
        return explore_known(search, search.questions)
    plan = plan_by_quotas(history, search.questions, search.seed)
    counts = {unit: count for unit, count in plan.counts.items() if unit in search.units}
    gone = sum(plan.counts.values()) - sum(counts.values())
    jobs = [job for unit in sorted(counts) for job in jobs_inside(search, unit, counts[unit])]
    if search.opens_units:
        return jobs + explore_known(search, gone) + explore_anew(plan.within, plan.beyond)
    return jobs + explore_known(search, gone + plan.explore)
