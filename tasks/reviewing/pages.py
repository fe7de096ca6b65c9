"""What stands on the page of one group, of one passage, and on a page of the queue."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import InputError
from schemas.judgement import Judgement
from schemas.question import Question, Variant
from schemas.response import PLAIN, Response
from tasks.reviewing.differences import Cut, Piece, side_by_side, visible, with_evidence
from tasks.reviewing.entries import Entry
from tasks.reviewing.material import Material, PassageCase
from tasks.text.slots import parse_slots

MOST_SAMPLES = 6
"""Answers per variant that stand on a page; how many more there are is said."""


LONGEST_PASSAGE = 20_000
"""Characters of a passage that stand on a page."""


@dataclass(frozen=True)
class ShownVariant:
    """A variant's text, its slots marked."""

    index: int
    value: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class ShownAnswer:
    """One answer in its column: the text, or why there is none."""

    id: str
    variant: int
    value: str
    cut: Cut
    note: str
    """`refused`, `cut short`, `no answer: …`, or nothing."""


@dataclass(frozen=True)
class ModelAnswers:
    """What one model answered: rows of one answer per variant; of options, how often each was taken."""

    model: str
    condition: str
    rows: tuple[tuple[ShownAnswer, ...], ...]
    chosen: tuple[tuple[str, tuple[str, ...]], ...]
    """By value: `yes × 3`, the most frequent first."""
    more: int
    """Answers per variant that are not shown."""


def shown_template(question: Question) -> tuple[Piece, ...]:
    """The text with what stands in its slots marked."""
    return tuple(in_pieces(question.template))


def shown_variants(question: Question) -> tuple[ShownVariant, ...]:
    return tuple(ShownVariant(v.index, v.value, _filled(question, v)) for v in question.variants)


def _filled(question: Question, variant: Variant) -> tuple[Piece, ...]:
    """The text cut at its slots; in one piece where template and slots do not give the text."""
    try:
        parts = parse_slots(question.template)
    except InputError:
        return tuple(visible(variant.text))
    fillings = iter(variant.slots)
    texts = [(p, "") if isinstance(p, str) else (next(fillings, ""), "slot") for p in parts]
    if "".join(text for text, _ in texts) != variant.text:
        return tuple(visible(variant.text))
    return tuple(piece for text, kind in texts for piece in visible(text, kind))


def shown_answers(question: Question, responses: Iterable[Response]) -> tuple[ModelAnswers, ...]:
    """By model and condition; of the last phase that the model was asked in."""
    by_model: dict[tuple[str, str], list[Response]] = defaultdict(list)
    for r in responses:
        by_model[r.model, r.condition].append(r)
    return tuple(
        _answers_of(model, condition, question, answers)
        for (model, condition), answers in sorted(by_model.items())
    )


def _answers_of(model: str, condition: str, question: Question, answers: Sequence[Response]) -> ModelAnswers:
    phase = "holdout" if any(r.phase == "holdout" for r in answers) else "search"
    samples: dict[int, dict[int, Response]] = defaultdict(dict)
    for r in answers:
        if r.phase == phase:
            samples[r.sample][r.variant] = r
    numbers = sorted(samples)
    free = not question.options
    shown = numbers[:MOST_SAMPLES] if free else []
    return ModelAnswers(
        model=model,
        condition="" if condition == PLAIN else condition,
        rows=tuple(_row([samples[n][v] for v in sorted(samples[n])]) for n in shown),
        chosen=() if free else _chosen(question, [r for n in numbers for r in samples[n].values()]),
        more=len(numbers) - len(shown) if free else 0,
    )


def _row(answers: Sequence[Response]) -> tuple[ShownAnswer, ...]:
    cuts = side_by_side([r.text for r in answers])
    return tuple(
        ShownAnswer(r.id, r.variant, r.value, cut, _note(r)) for r, cut in zip(answers, cuts, strict=True)
    )


def _note(response: Response) -> str:
    if response.failure is not None:
        return f"no answer: {response.failure.replace('_', ' ')}"
    if response.refused:
        return "refused"
    return "cut short" if response.finish_reason == "length" else ""


def _chosen(question: Question, answers: Sequence[Response]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for r in answers:
        if r.failure is None:
            counts[r.variant]["invalid" if r.option is None else question.options[r.option].text] += 1
    return tuple(
        (
            v.value,
            tuple(
                f"{text} × {n}" for text, n in sorted(counts[v.index].items(), key=lambda c: (-c[1], c[0]))
            ),
        )
        for v in question.variants
    )


def shown_judgements(question: Question, judgements: Iterable[Judgement]) -> list[dict[str, object]]:
    """Judges with their scores and reasons; only ever called for somebody who has decided."""
    return [
        {
            "judge": j.judge,
            "target": j.target,
            "phase": j.phase,
            "order": [question.values[i] if i < len(question.values) else str(i) for i in j.order],
            "fitness": j.fitness,
            "p_value": j.p_value,
            "abstention": j.abstention,
            "adjudicates": j.adjudicates,
            "scores": [(s.criterion, s.value, visible(s.reasoning)) for s in j.scores],
        }
        for j in sorted(judgements, key=lambda j: (j.phase, j.judge, j.target, j.repeat, j.id))
    ]


def shown_history(material: Material, question: Question) -> list[dict[str, object]]:
    """How relabelling came to the question's label, with the accepted question that it was compared with."""
    return [
        {
            "change": change,
            "evidence": visible(change.evidence) if change.evidence else None,
            "beside": shown_template(material.questions[change.query_id])
            if change.query_id in material.questions and change.query_id != question.id
            else None,
        }
        for change in material.history.get(question.id, ())
    ]


def shown_passage(case: PassageCase) -> dict[str, Any]:
    """A query, what answers it for certain, and the passage in question with the evidence marked."""
    at = case.passage.text.find(case.change.evidence or "")
    return {
        "query": visible(case.query),
        "positives": [{"title": p.title, "pieces": visible(_window(p.text, 0))} for p in case.positives],
        "title": case.passage.title,
        "pieces": with_evidence(_window(case.passage.text, at), case.change.evidence),
        "found": bool(case.change.evidence) and at >= 0,
    }


def _window(text: str, at: int) -> str:
    """Of a very long text the part around a place in it."""
    start = max(0, at - LONGEST_PASSAGE // 2) if at > LONGEST_PASSAGE // 2 else 0
    end = start + LONGEST_PASSAGE
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def listed(entry: Entry, most: int = 1_000) -> list[Piece]:
    """A line or two for the queue."""
    return in_pieces(entry.text if len(entry.text) <= most else entry.text[:most] + "…")


def in_pieces(template: str) -> list[Piece]:
    """A template's text with the options of its slots marked; as it stands where its slots are broken."""
    try:
        parts = parse_slots(template)
    except InputError:
        return visible(template)
    return [
        piece
        for part in parts
        for piece in (visible(part) if isinstance(part, str) else visible(" / ".join(part.options), "slot"))
    ]
