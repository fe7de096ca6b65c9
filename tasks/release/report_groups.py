"""Whole groups to read: the variants of a question with the answers they got, side by side."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.question import Question, Variant
from schemas.response import Response

_SLOT = re.compile(r"\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """Part of a variant's text; `slot`: whether it is what stands in a slot."""

    text: str
    slot: bool


@dataclass(frozen=True)
class VariantAnswers:
    """A variant and what one model answered, sample by sample."""

    value: str
    pieces: tuple[Piece, ...]
    answers: tuple[str, ...]
    chosen: tuple[str, ...]
    """What was chosen among options, most frequent first, such as `yes × 3`."""
    failed: int


@dataclass(frozen=True)
class Group:
    """A question as a reader sees it. `why`: why it is shown."""

    question: Question
    why: str
    model: str
    variants: tuple[VariantAnswers, ...]


def marked(variant: Variant, template: str) -> tuple[Piece, ...]:
    """The text cut at its slots; in one piece where template and slots do not give the text."""
    around = _SLOT.split(template)
    if len(around) != len(variant.slots) + 1:
        return (Piece(variant.text, False),)
    pieces = [Piece(around[0], False)]
    for slot, after in zip(variant.slots, around[1:], strict=True):
        pieces += [Piece(slot, True), Piece(after, False)]
    if "".join(p.text for p in pieces) != variant.text:
        return (Piece(variant.text, False),)
    return tuple(p for p in pieces if p.text)


def marked_template(template: str) -> tuple[Piece, ...]:
    """A template cut at its slots, each with all of its options."""
    around, slots = _SLOT.split(template), _SLOT.findall(template)
    pieces = [Piece(around[0], False)]
    for slot, after in zip(slots, around[1:], strict=True):
        pieces += [Piece(slot[2:-2], True), Piece(after, False)]
    return tuple(p for p in pieces if p.text)


def choose_groups(
    questions: Sequence[Question], hard_negatives: Sequence[Question], controls: Sequence[Question]
) -> list[tuple[Question, str]]:
    """A sample that is not only the best: per attribute the strongest question and the median one, one of
    each templated family, two hard negatives, and one control of each kind."""
    chosen: list[tuple[Question, str]] = []
    for attribute in sorted({q.attribute for q in questions}):
        ranked = sorted(
            (q for q in questions if q.attribute == attribute and q.fitness is not None),
            key=lambda q: (-(q.fitness or 0.0), q.id),
        )
        if ranked:
            chosen.append((ranked[0], "highest fitness of its attribute"))
        if len(ranked) > 2:
            chosen.append((ranked[len(ranked) // 2], "median fitness of its attribute"))
    for family in sorted({q.family for q in questions if q.fitness is None}):
        first = min((q for q in questions if q.family == family and q.fitness is None), key=lambda q: q.id)
        chosen.append((first, "first of its family by id"))
    chosen += [(q, "hard negative") for q in sorted(hard_negatives, key=lambda q: q.id)[:2]]
    for kind in sorted({q.control for q in controls}):
        first = min((q for q in controls if q.control == kind), key=lambda q: q.id)
        chosen.append((first, f"{kind.replace('a_a', 'A/A')} control, first by id"))
    return chosen


def groups(chosen: Iterable[tuple[Question, str]], responses: Iterable[Response]) -> tuple[Group, ...]:
    """The chosen questions with the answers of one model each: of the last phase, first by name."""
    wanted = list(chosen)
    ids = {q.id for q, _ in wanted}
    answers: dict[str, list[Response]] = defaultdict(list)
    for r in responses:
        if r.question_id in ids:
            answers[r.question_id].append(r)
    return tuple(_group(question, why, answers[question.id]) for question, why in wanted)


def _group(question: Question, why: str, answers: Sequence[Response]) -> Group:
    first = min(answers, key=lambda r: (r.phase, r.model), default=None)
    shown = [r for r in answers if first and (r.phase, r.model) == (first.phase, first.model)]
    return Group(
        question=question,
        why=why,
        model=f"{first.model}, {first.phase}" if first else "not answered",
        variants=tuple(
            _answers_of(v, question, [r for r in shown if r.variant == v.index]) for v in question.variants
        ),
    )


def _answers_of(variant: Variant, question: Question, answers: Sequence[Response]) -> VariantAnswers:
    ordered = sorted(answers, key=lambda r: r.sample)
    picks: dict[str, int] = defaultdict(int)
    for r in ordered:
        if question.options and r.failure is None:
            picks["invalid" if r.option is None else question.options[r.option].text] += 1
    return VariantAnswers(
        value=variant.value,
        pieces=marked(variant, question.template),
        answers=tuple(r.text for r in ordered if r.failure is None and not question.options),
        chosen=tuple(f"{text} × {n}" for text, n in sorted(picks.items(), key=lambda p: (-p[1], p[0]))),
        failed=sum(r.failure is not None for r in ordered),
    )
