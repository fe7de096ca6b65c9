"""Twin families: groups of questions that share a wording, so that their scores are not independent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import NamedTuple

from schemas.question import Framing, Question

REWORDING_OPERATORS = frozenset({"refine", "erratum", "review"})
"""Operators that keep the story of the parent question."""
IMPLICIT_SUFFIX = ".implicit"


class Matched(NamedTuple):
    """The properties that make the score of a question comparable to that of a control."""

    family: str
    versions: int
    framings: tuple[Framing, ...]
    """Framings of the averaged questions, without repetition."""


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


class ControlFloor:
    """Scores of controls without an effect, by the properties that a question must share."""

    def __init__(self, scores: Mapping[str, float], questions: Mapping[str, Question]) -> None:
        """Group the scores of controls by twin family, number of versions and framing.

        Args:
            scores: Score by id of the controls.
            questions: All questions by id.
        """
        self._families = _families_of(scores, questions)
        self._matching: dict[Matched, tuple[float, ...]] = {}

    def matching(self, wanted: Matched) -> tuple[float, ...]:
        """Return the mean score of each control in the wanted framings."""
        if wanted not in self._matching:
            self._matching[wanted] = tuple(
                fmean(fmean(by_framing[framing]) for framing in wanted.framings)
                for (family, _, versions), by_framing in sorted(self._families.items())
                if (family, versions) == (wanted.family, wanted.versions)
                and by_framing.keys() >= set(wanted.framings)
            )
        return self._matching[wanted]

    def matching_question(self, question: Question) -> tuple[float, ...]:
        """Return the scores of the controls that a single question is comparable to."""
        return self.matching(Matched(question.family, len(question.variants), (question.framing,)))


def matched_scores(
    scores: Mapping[str, float], questions: Mapping[str, Question]
) -> dict[Matched, list[float]]:
    """Average scores over twin families, by the properties that a control must share.

    A question and its controls have the same number of versions, because the largest of many differences is
    large. They have the same framings, because the mean of two questions varies less than a single one. A
    twin family with different numbers of versions is split.

    Args:
        scores: Score by id of the questions.
        questions: All questions by id.
    """
    strata: dict[Matched, list[float]] = defaultdict(list)
    for (family, _, versions), by_framing in sorted(_families_of(scores, questions).items()):
        mean = fmean(map(fmean, by_framing.values()))
        strata[Matched(family, versions, tuple(sorted(by_framing)))].append(mean)
    return dict(strata)


def _families_of(
    scores: Mapping[str, float], questions: Mapping[str, Question]
) -> dict[tuple[str, str, int], dict[Framing, list[float]]]:
    """Return the scores by framing, by (family, `twin family/versions`, versions)."""
    twins = twin_families(questions[i] for i in scores)
    found: dict[tuple[str, str, int], dict[Framing, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i in sorted(scores):
        question = questions[i]
        versions = len(question.variants)
        found[question.family, f"{twins[i]}/{versions}", versions][question.framing].append(scores[i])
    return found
