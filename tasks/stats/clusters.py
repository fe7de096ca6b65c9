"""Twin families: groups of questions that share a wording, so that their scores are not independent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import NamedTuple

from schemas.question import Framing, Question

REWORDING_OPERATORS = frozenset({"refine", "erratum", "review"})
"""Operators whose question keeps the story of its parent."""
IMPLICIT_SUFFIX = ".implicit"


class Matched(NamedTuple):
    """The properties that make the score of a question comparable to that of a control."""

    family: str
    versions: int
    framings: tuple[Framing, ...]
    """Framings of the questions whose scores are averaged."""


def twin_families(questions: Iterable[Question]) -> dict[str, str]:
    """Group questions that are rewordings of each other.

    A family consists of both framings of a question, its corrected and refined wordings, and questions from
    one template, whatever attribute it is bound to. Controls never belong to the family of their original.

    Returns:
        The id of the first question of the family (in alphabetical order), by question id.
    """
    rows = sorted(questions, key=lambda q: q.id)
    parents = {q.id: q.id for q in rows}

    def root(question: str) -> str:
        while parents[question] != question:
            parents[question] = parents[parents[question]]
            question = parents[question]
        return question

    templates: dict[tuple[str, str, str], str] = {}
    for q in rows:
        relatives = [q.twin_id, q.parent_id if q.operator in REWORDING_OPERATORS else None]
        if q.template_id:
            stem = q.template_id.removesuffix(IMPLICIT_SUFFIX)
            relatives.append(templates.setdefault((q.family, q.control, stem), q.id))
        for relative in relatives:
            if relative in parents:
                first, second = sorted((root(q.id), root(relative)))
                parents[second] = first
    return {q.id: root(q.id) for q in rows}


def matched_scores(
    scores: Mapping[str, float], questions: Mapping[str, Question]
) -> dict[str, tuple[Matched, float]]:
    """Average scores over twin families, with the properties that a control must share.

    Args:
        scores: Score by question id.
        questions: All questions by id.

    Returns:
        Properties and mean score by twin family. Questions of one family with different numbers of versions
        are kept apart, as `family/versions`.
    """
    family_of = twin_families(questions[i] for i in scores)
    members: dict[tuple[str, int], list[Question]] = defaultdict(list)
    for i in sorted(scores):
        members[family_of[i], len(questions[i].variants)].append(questions[i])
    return {
        f"{name}/{versions}": (
            Matched(inside[0].family, versions, tuple(sorted(q.framing for q in inside))),
            fmean(scores[q.id] for q in inside),
        )
        for (name, versions), inside in sorted(members.items())
    }
