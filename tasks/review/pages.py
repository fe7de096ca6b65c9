"""Texts as a reviewer reads them: cut where they are long, with what differs and what hides made visible."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import Field

from schemas.answers import PLAIN, Judgement, Response
from schemas.errors import InputError
from schemas.question import Question, Variant
from tasks.review.events import Subject, reviewer_name, subject_of
from tasks.review.queue import STATES, VERDICTS, Filters, QueueEntry, ReviewerQueue, ReviewSession, neighbours
from tasks.review.subjects import KINDS, PassageCase, ReviewMaterial
from tasks.text.similarity import changed_words, ratio
from tasks.text.slots import parse_slots

SHOWN = 1_200
"""Characters of an answer that stand on the page; the rest is fetched when it is asked for."""
ALIKE = 60.0
"""Ratio (0 to 100) from which two answers are much the same, and compared word by word in order."""

_WORD = re.compile(r"\s+|\w+(?:[’'-]\w+)*|[^\w\s]")
_KEPT = "\n\t"
_WITHOUT_KEPT = dict.fromkeys(map(ord, _KEPT))
_NAMES = {
    "\u202a": "left-to-right embedding",
    "\u202b": "right-to-left embedding",
    "\u202c": "end of embedding",
    "\u202d": "left-to-right override",
    "\u202e": "right-to-left override",
}


@dataclass(frozen=True)
class PageSpan:
    """A stretch of text. `kind`: empty, `slot`, `differs`, `evidence`, or `hidden`, a character that does
    something and shows nothing, with its name as the text."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Cut:
    """A text as far as it is shown."""

    pieces: tuple[PageSpan, ...]
    length: int
    """Characters of the whole text."""
    whole: bool


def is_hidden(character: str) -> bool:
    """Controls, and the format characters that turn the direction of text or have no width. Joiners stay:
    scripts and emoji need them."""
    if character in _KEPT or character in "\u200c\u200d":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def hidden_name(character: str) -> str:
    """What to call such a character: `right-to-left override U+202E`."""
    name = _NAMES.get(character) or unicodedata.name(character, "control").lower()
    return f"{name} U+{ord(character):04X}"


def visible(text: str, kind: str = "") -> list[PageSpan]:
    """The text in pieces, hidden characters named."""
    text = text.replace("\r\n", "\n")
    if text.translate(_WITHOUT_KEPT).isprintable():
        return [PageSpan(text, kind)] if text else []
    pieces: list[PageSpan] = []
    start = 0
    for at, character in enumerate(text):
        if is_hidden(character):
            pieces += [PageSpan(text[start:at], kind)] if at > start else []
            pieces.append(PageSpan(hidden_name(character), "hidden"))
            start = at + 1
    return pieces + ([PageSpan(text[start:], kind)] if start < len(text) else [])


def plain(text: str) -> str:
    """The text in one, hidden characters named in brackets."""
    return "".join(f"⟨{p.text}⟩" if p.kind == "hidden" else p.text for p in visible(text))


def shorten(text: str, shown: int = SHOWN) -> str:
    """The beginning of a text, cut at a space where there is one near the end."""
    if len(text) <= shown + shown // 4:
        return text
    at = text.rfind(" ", shown - 80, shown)
    return text[: at if at > 0 else shown]


def side_by_side(texts: Sequence[str], shown: int = SHOWN) -> list[Cut]:
    """Texts that stand beside each other, each with the words marked that set it apart.

    A word is set apart where no text beside it has it; and where a text is much like another (a ratio of
    `ALIKE` or more), also where the two differ word by word, so that one "not" is seen.
    """
    beginnings = [shorten(text, shown) for text in texts]
    words = [_WORD.findall(text) for text in beginnings]
    return [
        Cut(_marked(words[i], _set_apart(i, words, beginnings)), len(text), len(text) == len(beginnings[i]))
        for i, text in enumerate(texts)
    ]


def _set_apart(i: int, words: Sequence[Sequence[str]], texts: Sequence[str]) -> list[bool]:
    others = [j for j in range(len(words)) if j != i]
    if not others or not words[i]:
        return [False] * len(words[i])
    shared = {word.lower() for j in others for word in words[j]}
    apart = [word.lower() not in shared for word in words[i]]
    likeness, nearest = max((ratio(texts[i], texts[j]), -j) for j in others)
    if likeness >= ALIKE:
        changed = changed_words(words[-nearest], words[i])
        apart = [a or b for a, b in zip(apart, changed, strict=True)]
    return [mark and word[0].isalnum() for mark, word in zip(apart, words[i], strict=True)]


def _marked(words: Sequence[str], marks: Sequence[bool]) -> tuple[PageSpan, ...]:
    """Words joined to as few pieces as there are changes of mark; a space between marks is marked as well."""
    joined: list[tuple[str, bool]] = []
    for at, (word, mark) in enumerate(zip(words, marks, strict=True)):
        between = word == " " and 0 < at < len(words) - 1 and marks[at - 1] and marks[at + 1]
        if joined and joined[-1][1] == (mark or between):
            joined[-1] = (joined[-1][0] + word, joined[-1][1])
        else:
            joined.append((word, mark or between))
    return tuple(piece for text, mark in joined for piece in visible(text, "differs" if mark else ""))


def with_evidence(text: str, evidence: str | None) -> list[PageSpan]:
    """The text with the verbatim span that decided, where it stands in it."""
    at = text.find(evidence) if evidence else -1
    if not evidence or at < 0:
        return visible(text)
    end = at + len(evidence)
    return visible(text[:at]) + visible(text[at:end], "evidence") + visible(text[end:])


# What stands on the page of one group, of one passage, and on a page of the queue.


MOST_SAMPLES = 6
"""Answers per variant that stand on a page; how many more there are is said."""


LONGEST_PASSAGE = 20_000
"""Characters of a passage that stand on a page."""


@dataclass(frozen=True)
class ShownVariant:
    """A variant's text, its slots marked."""

    index: int
    value: str
    pieces: tuple[PageSpan, ...]


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


def shown_template(question: Question) -> tuple[PageSpan, ...]:
    """The text with what stands in its slots marked."""
    return tuple(in_pieces(question.template))


def shown_variants(question: Question) -> tuple[ShownVariant, ...]:
    return tuple(ShownVariant(v.index, v.value, _filled(question, v)) for v in question.variants)


def _filled(question: Question, variant: Variant) -> tuple[PageSpan, ...]:
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


def shown_history(material: ReviewMaterial, question: Question) -> list[dict[str, object]]:
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


def listed(entry: QueueEntry, most: int = 1_000) -> list[PageSpan]:
    """A line or two for the queue."""
    return in_pieces(entry.text if len(entry.text) <= most else entry.text[:most] + "…")


def in_pieces(template: str) -> list[PageSpan]:
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


# What is on the screen at an address: a page of the queue, or one subject.


PAGE = 50
"""Entries on a page of the queue."""


class PageAddress(Filters):
    """An address: who looks, through which filters, at which page of the queue or at which subject."""

    reviewer: str = Field(min_length=1, max_length=200)
    page: int = Field(default=1, ge=1)
    subject: str = ""
    id: str = ""
    query: str = ""

    @property
    def filters(self) -> Filters:
        return Filters(**{name: getattr(self, name) for name in Filters.model_fields})


def address(page: str, reviewer: str, filters: Filters, more: Mapping[str, Any] | None = None) -> str:
    """A relative address: it holds no token."""
    return f"{page}?{urlencode({'reviewer': reviewer, **filters.changed(), **(more or {})})}"


def group_address(reviewer: str, filters: Filters, entry: QueueEntry | None) -> str | None:
    if entry is None:
        return None
    subject, subject_id, query_id = entry.subject
    where = {"subject": subject, "id": subject_id} | ({"query": query_id} if query_id else {})
    return address("group", reviewer, filters, where)


def queue_page(desk: ReviewSession, where: PageAddress) -> dict[str, Any]:
    """One page of the queue, with what can be filtered by."""
    reviewer, filters = reviewer_name(where.reviewer), where.filters
    turn = desk.turn(reviewer)
    found = turn.select(filters)
    pages = max(1, -(-len(found) // PAGE))
    at = min(where.page, pages)
    discuss, disagreed = turn.in_doubt
    done, total = turn.progress
    here = desk.by_subject.keys()
    return {
        "reviewer": reviewer,
        "filters": filters,
        "entries": [
            {
                "entry": e,
                "pieces": listed(e),
                "word": turn.words.get(e.subject),
                "href": group_address(reviewer, filters, e),
            }
            for e in found[(at - 1) * PAGE : at * PAGE]
        ],
        "found": len(found),
        "first": (at - 1) * PAGE + 1,
        "pages": pages,
        "at": at,
        "before": address("queue", reviewer, filters, {"page": at - 1}) if at > 1 else None,
        "after": address("queue", reviewer, filters, {"page": at + 1}) if at < pages else None,
        "states": [
            (
                state,
                address("queue", reviewer, filters.model_copy(update={"state": state})),
                {"discuss": len(discuss & here), "disagreed": len(disagreed & here)}.get(state),
            )
            for state in STATES
        ],
        "start": address("next", reviewer, filters),
        "plain": address("queue", reviewer, Filters()),
        "kinds": ("open", *KINDS),
        "attributes": desk.attributes,
        "domains": desk.domains,
        "has_new": bool(desk.material.new),
        "others": [name for name in turn.reviewers if name != reviewer],
        "done": done,
        "total": total,
    }


def group_page(desk: ReviewSession, where: PageAddress) -> dict[str, Any]:
    """One subject. Judges, labels and other reviewers are in it only for somebody who has decided."""
    reviewer, filters = reviewer_name(where.reviewer), where.filters
    subject: Subject = (where.subject, where.id, where.query)
    entry = desk.entry(subject)
    turn = desk.turn(reviewer)
    before, after = neighbours(turn.select(filters), entry, filters)
    done, total = turn.progress
    word = turn.words.get(subject)
    latest = desk.latest(reviewer)
    return {
        "reviewer": reviewer,
        "entry": entry,
        "verdicts": VERDICTS[entry.subject[0]],
        "word": word,
        "previous": group_address(reviewer, filters, before),
        "next": group_address(reviewer, filters, after),
        "queue": address("queue", reviewer, filters),
        "latest": latest,
        "undone": group_address(reviewer, filters, desk.by_subject[subject_of(latest)]) if latest else None,
        "done": done,
        "total": total,
        **(_question(desk, where.id) if subject[0] == "question" else _passage(desk, subject)),
        "revealed": _revealed(desk, turn, subject) if word else None,
    }


def _question(desk: ReviewSession, question_id: str) -> dict[str, Any]:
    question = desk.material.questions[question_id]
    return {
        "question": question,
        "template": shown_template(question),
        "variants": shown_variants(question),
        "models": shown_answers(question, desk.material.responses.of(question_id)),
        "case": None,
    }


def _passage(desk: ReviewSession, subject: Subject) -> dict[str, Any]:
    case = desk.material.passages[subject[2], subject[1]]
    return {"question": None, "case": shown_passage(case)}


def _revealed(desk: ReviewSession, turn: ReviewerQueue, subject: Subject) -> dict[str, Any]:
    """What is kept from a reviewer until they have decided."""
    said = sorted((name, words[subject]) for name, words in turn.said.items() if subject in words)
    others = [event for name, event in said if name != turn.reviewer]
    if subject[0] == "passage":
        change = desk.material.passages[subject[2], subject[1]].change
        return {"others": others, "change": change, "judgements": [], "history": []}
    question = desk.material.questions[subject[1]]
    return {
        "others": others,
        "change": None,
        "kind": desk.material.kinds[question.id],
        "fitness": question.fitness,
        "holdout_effect": question.holdout_effect,
        "judgements": shown_judgements(question, desk.material.judgements.of(question.id)),
        "history": shown_history(desk.material, question),
    }
