"""Strategy `map_elites`: a map of the best question of every kind, filled and bettered.

MAP-Elites (Mouret and Clune, arXiv 1504.04909): the search space is cut into cells, here domain × framing ×
attribute; each cell keeps its best question, and new ones descend from these elites, all cells alike, so
that the search does not narrow to where it found something first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from schemas.ids import derived_seed
from schemas.question import Question
from tasks.evolving.jobs import OPERATOR_SHARES, Job, Search
from tasks.stats.quotas import Unit

Cell = tuple[Unit, str, str]
"""(domain, framing, attribute)"""
REFINE_SHARE = OPERATOR_SHARES["refine"] / (OPERATOR_SHARES["refine"] + OPERATOR_SHARES["replace"])


def by_map_elites(search: Search) -> list[Job]:
    """Half of the round in the cells that were asked least, empty ones first; half from elites drawn by seed,
    each once before any again."""
    drawn = drawn_elites(search, search.questions // 2)
    return drawn + neglected_cells(search, search.questions - len(drawn))


def cell_of(question: Question) -> Cell:
    return (question.superdomain, question.domain), question.framing, question.attribute


def elites(judged: Iterable[Question]) -> dict[Cell, Question]:
    """The best question of every cell; among equals that with the smallest id."""
    best: dict[Cell, Question] = {}
    for question in sorted(judged, key=lambda q: (-(q.fitness or 0.0), q.id)):
        best.setdefault(cell_of(question), question)
    return best


def drawn_elites(search: Search, count: int) -> list[Job]:
    """Jobs that refine or replace elites. An elite asked by name is rewritten through its explicit twin; one
    that was refined before is replaced."""
    parents = {q.id: q for q in search.parents if (q.superdomain, q.domain) in search.units}
    found = elites(search.judged).values()
    written_as = {(q.twin_id if q.framing == "implicit" else q.id) or "" for q in found}
    order = sorted(written_as & set(parents), key=lambda i: derived_seed(search.seed, "elite", i))
    jobs = []
    for turn in range(count if order else 0):
        parent = parents[order[turn % len(order)]]
        refines = derived_seed(search.seed, "refine", parent.id, turn) % 100 < 100 * REFINE_SHARE
        fresh = turn < len(order) and parent.id not in search.refined
        jobs.append(
            Job((parent.superdomain, parent.domain), "refine" if refines and fresh else "replace", parent)
        )
    return jobs


def neglected_cells(search: Search, count: int) -> list[Job]:
    """Jobs in the domains and attributes whose cells were asked least, ties by seed. Questions that were made
    neutral count as asked, so that a cell that can hold nothing else is not tried for ever."""
    asked = Counter(
        cell_of(q) for q in search.archive if q.family == "open" and q.control in ("none", "neutral")
    )

    def least(unit: Unit, attribute: str) -> int:
        framings = ("explicit", "implicit") if attribute in search.named else ("explicit",)
        return min(asked[unit, framing, attribute] for framing in framings)

    places = [(unit, attribute) for unit in search.units for attribute in search.fitting(unit)]
    places.sort(key=lambda p: (least(*p), derived_seed(search.seed, "cell", *p[0], p[1])))
    jobs = [
        Job(unit, "new_topic" if unit in search.seen else "explore", attribute=attribute)
        for unit, attribute in places
    ]
    return [jobs[i % len(jobs)] for i in range(count)] if jobs else []
