"""Ranking the evidence of a row: windows, two orders, and where each candidate stands.

A window holds up to 20 spans and moves on by 10 (the published setting for sets that do not fit in one).
Ours: the positives' spans are in every window, because the only question is whether a candidate beats the
best of them; every window is asked in two opposite orders, because a verdict that depends on the order is
none; and a candidate that falls into two windows must win in both.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.ids import derived_seed
from tasks.relabelling.judge import Evidence, Judge, RankingQuestion
from tasks.relabelling.policies import Standing

WINDOW = 20
STEP = 10


@dataclass(frozen=True, slots=True)
class Contest:
    """The evidence of one row: spans of positives, and of the negatives that have one, by index."""

    query: str
    positives: dict[int, Evidence]
    candidates: dict[int, Evidence]
    positive_unknown: bool
    """Some positive's evidence is unknown, so that nothing can be said to beat them all."""


@dataclass(frozen=True, slots=True)
class _Window:
    contest: int
    shown: tuple[tuple[bool, int], ...]
    """(is a positive, index), in the order in which the spans are shown."""


def windows(positives: Sequence[int], candidates: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Which positives and which candidates are ranked together. With more than 10 positives a candidate has
    to meet them in groups of 10."""
    for first in range(0, len(positives), STEP):
        pinned = list(positives[first : first + STEP])
        room = WINDOW - len(pinned)
        for start in range(0, len(candidates), STEP):
            yield pinned, list(candidates[start : start + room])
            if start + room >= len(candidates):
                break


async def rank_candidates(contests: Sequence[Contest], judge: Judge) -> list[dict[int, Standing]]:
    """Where every candidate of every contest stands against the best-ranked positive."""
    asked = [window for number, contest in enumerate(contests) for window in _orders(number, contest)]
    rankings = await judge.rank([_question(contests[w.contest], w) for w in asked])
    seen: list[dict[int, list[Standing]]] = [{i: [] for i in c.candidates} for c in contests]
    for window, ranking in zip(asked, rankings, strict=True):
        for index, standing in _standings(window, ranking.places):
            seen[window.contest][index].append(standing)
    return [
        {index: settle_standing(found, contest.positive_unknown) for index, found in standings.items()}
        for contest, standings in zip(contests, seen, strict=True)
    ]


def settle_standing(found: Sequence[Standing], positive_unknown: bool = False) -> Standing:
    """One standing out of all orders and windows: unanimous, or no win."""
    if not found or "unjudged" in found:
        return "unjudged"
    if len(set(found)) > 1:
        return "flipped"
    if positive_unknown and found[0] != "below":
        return "unjudged"
    return found[0]


def _orders(number: int, contest: Contest) -> Iterator[_Window]:
    for pinned, candidates in windows(sorted(contest.positives), sorted(contest.candidates)):
        shown = [(True, i) for i in pinned] + [(False, i) for i in candidates]
        spans = [(_span(contest, is_positive, i)) for is_positive, i in shown]
        random.Random(derived_seed("ranking order", contest.query, spans)).shuffle(shown)
        yield _Window(number, tuple(shown))
        yield _Window(number, tuple(reversed(shown)))


def _question(contest: Contest, window: _Window) -> RankingQuestion:
    spans = tuple((contest.positives if positive else contest.candidates)[i] for positive, i in window.shown)
    return RankingQuestion(contest.query, spans)


def _span(contest: Contest, is_positive: bool, index: int) -> str | None:
    return (contest.positives if is_positive else contest.candidates)[index].span


def _standings(window: _Window, places: Sequence[int | None]) -> Iterator[tuple[int, Standing]]:
    """(candidate, standing) in one order. A positive without a place leaves open who beats it."""
    positives = [place for (positive, _), place in zip(window.shown, places, strict=True) if positive]
    ranked = [place for place in positives if place is not None]
    for (positive, index), place in zip(window.shown, places, strict=True):
        if positive:
            continue
        if place is None or not ranked:
            yield index, "unjudged"
        elif place > min(ranked):
            yield index, "below"
        elif len(ranked) < len(positives):
            yield index, "unjudged"
        else:
            yield index, "tied" if place == min(ranked) else "above"
