"""The unit that judges see: one question's answers by one model, all variants side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.question import Question
from schemas.response import Phase, Response


@dataclass(frozen=True)
class AnswerGroup:
    """`answers[i]` are the usable answers to variant i, by sample; failed calls are left out."""

    question: Question
    target: str
    phase: Phase
    answers: tuple[tuple[Response, ...], ...]

    @property
    def is_complete(self) -> bool:
        """Whether every variant has an answer."""
        return all(self.answers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Answers per variant."""
        return tuple(len(answers) for answers in self.answers)

    @property
    def flat(self) -> tuple[Response, ...]:
        """All answers, variant by variant."""
        return tuple(answer for answers in self.answers for answer in answers)


def group_answers(questions: Iterable[Question], responses: Iterable[Response]) -> list[AnswerGroup]:
    """One group per question, target and phase, sorted by them. Responses to other questions are left out;
    a question without any response has no group."""
    known = {question.id: question for question in questions}
    rows: dict[tuple[str, str, Phase], list[Response]] = defaultdict(list)
    for response in responses:
        if response.question_id in known:
            rows[(response.question_id, response.model, response.phase)].append(response)
    return [
        AnswerGroup(known[question_id], target, phase, _by_variant(known[question_id], found))
        for (question_id, target, phase), found in sorted(rows.items())
    ]


def _by_variant(question: Question, responses: Sequence[Response]) -> tuple[tuple[Response, ...], ...]:
    usable = sorted(
        (r for r in responses if r.failure is None and (r.text.strip() or r.refused)),
        key=lambda r: (r.variant, r.sample, r.id),
    )
    return tuple(tuple(r for r in usable if r.variant == variant.index) for variant in question.variants)
