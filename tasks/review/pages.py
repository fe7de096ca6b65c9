"""Build the contents of the review pages.

This includes excerpts with marked differences and named invisible characters.
"""

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
from tasks.review.answer_sample import HIGHEST, LOWEST, masked_versions
from tasks.review.events import VERDICTS, Subject, reviewer_name, subject_of
from tasks.review.queue import STATES, Filters, QueueEntry, ReviewerQueue, ReviewSession, adjacent_entries
from tasks.review.subjects import KINDS, PassageCase, ReviewSubjects
from tasks.text.similarity import changed_words, ratio
from tasks.text.slots import parse_slots

EXCERPT_LENGTH = 1_200
"""Characters of an answer on the page. The rest is loaded on request."""
SIMILAR = 60.0
"""Similarity (0 to 100) from which two answers are compared word by word."""

_WORD = re.compile(r"\s+|\w+(?:[’'-]\w+)*|[^\w\s]")
_VISIBLE = "\n\t"
_WITHOUT_VISIBLE = dict.fromkeys(map(ord, _VISIBLE))
_NAMES = {
    "\u202a": "left-to-right embedding",
    "\u202b": "right-to-left embedding",
    "\u202c": "end of embedding",
    "\u202d": "left-to-right override",
    "\u202e": "right-to-left override",
}


@dataclass(frozen=True)
class TextSpan:
    """A part of a text.

    `kind` is empty, `slot`, `differs`, `evidence` or `hidden`. A `hidden` span is an invisible character,
    with its name as the text.
    """

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Excerpt:
    """The displayed part of a text."""

    spans: tuple[TextSpan, ...]
    length: int
    """Characters of the whole text."""
    whole: bool


def is_hidden(character: str) -> bool:
    """Return whether a character is invisible.

    Invisible are control characters and format characters that change the text direction or have no width.
    Joiners are not, because scripts and emoji need them.
    """
    if character in _VISIBLE or character in "\u200c\u200d":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def hidden_name(character: str) -> str:
    """Return the name of an invisible character, such as `right-to-left override U+202E`."""
    name = _NAMES.get(character) or unicodedata.name(character, "control").lower()
    return f"{name} U+{ord(character):04X}"


def to_spans(text: str, kind: str = "") -> list[TextSpan]:
    """Split a text at its invisible characters, which are named."""
    text = text.replace("\r\n", "\n")
    if text.translate(_WITHOUT_VISIBLE).isprintable():
        return [TextSpan(text, kind)] if text else []
    spans: list[TextSpan] = []
    start = 0
    for at, character in enumerate(text):
        if is_hidden(character):
            spans += [TextSpan(text[start:at], kind)] if at > start else []
            spans.append(TextSpan(hidden_name(character), "hidden"))
            start = at + 1
    return spans + ([TextSpan(text[start:], kind)] if start < len(text) else [])


def name_hidden(text: str) -> str:
    """Return the text with the names of invisible characters in brackets."""
    return "".join(f"⟨{p.text}⟩" if p.kind == "hidden" else p.text for p in to_spans(text))


def shorten(text: str, length: int = EXCERPT_LENGTH) -> str:
    """Return the beginning of a text, cut at a space near the end if possible."""
    if len(text) <= length + length // 4:
        return text
    at = text.rfind(" ", length - 80, length)
    return text[: at if at > 0 else length]


def mark_differences(texts: Sequence[str], length: int = EXCERPT_LENGTH) -> list[Excerpt]:
    """Mark the words that distinguish texts displayed side by side.

    A word is marked if no other text contains it. If a text is similar to another (`SIMILAR` or more), words
    that differ between the two are marked as well, so that a single "not" is visible.
    """
    beginnings = [shorten(text, length) for text in texts]
    words = [_WORD.findall(text) for text in beginnings]
    return [
        Excerpt(
            _join_spans(words[i], _distinguishing(i, words, beginnings)),
            len(text),
            len(text) == len(beginnings[i]),
        )
        for i, text in enumerate(texts)
    ]


def _distinguishing(i: int, words: Sequence[Sequence[str]], texts: Sequence[str]) -> list[bool]:
    """Return which words of text `i` distinguish it from the others."""
    others = [j for j in range(len(words)) if j != i]
    if not others or not words[i]:
        return [False] * len(words[i])
    shared = {word.lower() for j in others for word in words[j]}
    marks = [word.lower() not in shared for word in words[i]]
    similarity, nearest = max((ratio(texts[i], texts[j]), -j) for j in others)
    if similarity >= SIMILAR:
        changed = changed_words(words[-nearest], words[i])
        marks = [a or b for a, b in zip(marks, changed, strict=True)]
    return [mark and word[0].isalnum() for mark, word in zip(marks, words[i], strict=True)]


def _join_spans(words: Sequence[str], marks: Sequence[bool]) -> tuple[TextSpan, ...]:
    """Join words into as few spans as possible. A space between two marked words is marked as well."""
    joined: list[tuple[str, bool]] = []
    for at, (word, mark) in enumerate(zip(words, marks, strict=True)):
        between = word == " " and 0 < at < len(words) - 1 and marks[at - 1] and marks[at + 1]
        if joined and joined[-1][1] == (mark or between):
            joined[-1] = (joined[-1][0] + word, joined[-1][1])
        else:
            joined.append((word, mark or between))
    return tuple(span for text, mark in joined for span in to_spans(text, "differs" if mark else ""))


def mark_evidence(text: str, evidence: str | None) -> list[TextSpan]:
    """Return the text with the verbatim evidence marked, if it occurs."""
    at = text.find(evidence) if evidence else -1
    if not evidence or at < 0:
        return to_spans(text)
    end = at + len(evidence)
    return to_spans(text[:at]) + to_spans(text[at:end], "evidence") + to_spans(text[end:])


# Values shown on the page of one group or passage, and in the queue.


SHOWN_SAMPLES = 6
"""Maximum number of answers per variant on a page. The page states how many more exist."""


LONGEST_PASSAGE = 20_000
"""Maximum number of characters of a passage on a page."""


@dataclass(frozen=True)
class VariantView:
    """The text of a variant with its slots marked."""

    index: int
    value: str
    spans: tuple[TextSpan, ...]


@dataclass(frozen=True)
class AnswerView:
    """One answer, or the reason why it is missing."""

    id: str
    variant: int
    value: str
    excerpt: Excerpt
    note: str
    """`refused`, `cut short`, `no answer: …`, or empty."""


@dataclass(frozen=True)
class ModelAnswers:
    """The answers of one model.

    Free texts are in rows of one answer per variant. Choices among options are counted.
    """

    model: str
    condition: str
    rows: tuple[tuple[AnswerView, ...], ...]
    choices: tuple[tuple[str, tuple[str, ...]], ...]
    """By value: choices such as `yes × 3`, most frequent first."""
    more: int
    """Answers per variant that are not shown."""


def view_variants(question: Question) -> tuple[VariantView, ...]:
    """Return all variants with their slots marked."""
    return tuple(VariantView(v.index, v.value, _fill_slots(question, v)) for v in question.variants)


def _fill_slots(question: Question, variant: Variant) -> tuple[TextSpan, ...]:
    """Mark the filled slots. Return the text unmarked if it does not match the template."""
    try:
        parts = parse_slots(question.template)
    except InputError:
        return tuple(to_spans(variant.text))
    fillings = iter(variant.slots)
    texts = [(p, "") if isinstance(p, str) else (next(fillings, ""), "slot") for p in parts]
    if "".join(text for text, _ in texts) != variant.text:
        return tuple(to_spans(variant.text))
    return tuple(span for text, kind in texts for span in to_spans(text, kind))


def view_answers(question: Question, responses: Iterable[Response]) -> tuple[ModelAnswers, ...]:
    """Return the answers by model and condition. Hold-out answers replace those of the search."""
    by_model: dict[tuple[str, str], list[Response]] = defaultdict(list)
    for r in responses:
        by_model[r.model, r.condition].append(r)
    return tuple(
        _model_answers(model, condition, question, answers)
        for (model, condition), answers in sorted(by_model.items())
    )


def _model_answers(
    model: str, condition: str, question: Question, answers: Sequence[Response]
) -> ModelAnswers:
    phase = "holdout" if any(r.phase == "holdout" for r in answers) else "search"
    samples: dict[int, dict[int, Response]] = defaultdict(dict)
    for r in answers:
        if r.phase == phase:
            samples[r.sample][r.variant] = r
    numbers = sorted(samples)
    free = not question.options
    displayed = numbers[:SHOWN_SAMPLES] if free else []
    return ModelAnswers(
        model=model,
        condition="" if condition == PLAIN else condition,
        rows=tuple(_answer_row([samples[n][v] for v in sorted(samples[n])]) for n in displayed),
        choices=() if free else _count_choices(question, [r for n in numbers for r in samples[n].values()]),
        more=len(numbers) - len(displayed) if free else 0,
    )


def _answer_row(answers: Sequence[Response]) -> tuple[AnswerView, ...]:
    excerpts = mark_differences([r.text for r in answers])
    return tuple(
        AnswerView(r.id, r.variant, r.value, excerpt, _note(r))
        for r, excerpt in zip(answers, excerpts, strict=True)
    )


def _note(response: Response) -> str:
    if response.failure is not None:
        return f"no answer: {response.failure.replace('_', ' ')}"
    if response.refused:
        return "refused"
    return "cut short" if response.finish_reason == "length" else ""


def _count_choices(
    question: Question, answers: Sequence[Response]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
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


def view_judgements(question: Question, judgements: Iterable[Judgement]) -> list[dict[str, object]]:
    """Return the judges' scores and reasons. Only after the reviewer's own decision."""
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
            "scores": [(s.criterion, s.value, to_spans(s.reasoning)) for s in j.scores],
        }
        for j in sorted(judgements, key=lambda j: (j.phase, j.judge, j.target, j.repeat, j.id))
    ]


def view_history(subjects: ReviewSubjects, question: Question) -> list[dict[str, object]]:
    """Return the label changes of a question, with the accepted question it was compared with."""
    return [
        {
            "change": change,
            "evidence": to_spans(change.evidence) if change.evidence else None,
            "compared_with": tuple(mark_slots(subjects.questions[change.query_id].template))
            if change.query_id in subjects.questions and change.query_id != question.id
            else None,
        }
        for change in subjects.history.get(question.id, ())
    ]


def view_passage(case: PassageCase) -> dict[str, Any]:
    """Return a query, its known positives, and the reviewed passage with the evidence marked."""
    at = case.passage.text.find(case.change.evidence or "")
    return {
        "query": to_spans(case.query),
        "positives": [{"title": p.title, "spans": to_spans(_window(p.text, 0))} for p in case.positives],
        "title": case.passage.title,
        "spans": mark_evidence(_window(case.passage.text, at), case.change.evidence),
        "has_evidence": bool(case.change.evidence) and at >= 0,
    }


def _window(text: str, at: int) -> str:
    """Return the part of a very long text around a position."""
    start = max(0, at - LONGEST_PASSAGE // 2) if at > LONGEST_PASSAGE // 2 else 0
    end = start + LONGEST_PASSAGE
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def entry_spans(entry: QueueEntry, most: int = 1_000) -> list[TextSpan]:
    """Return the beginning of an entry's text for the queue."""
    return mark_slots(entry.text if len(entry.text) <= most else entry.text[:most] + "…")


def mark_slots(template: str) -> list[TextSpan]:
    """Mark the options of a template's slots. Return the text unmarked if a slot is malformed."""
    try:
        parts = parse_slots(template)
    except InputError:
        return to_spans(template)
    return [
        span
        for part in parts
        for span in (to_spans(part) if isinstance(part, str) else to_spans(" / ".join(part.options), "slot"))
    ]


# The pages: the queue, and one group or passage.


ENTRIES_PER_PAGE = 50
"""Entries on one page of the queue."""


class PageQuery(Filters):
    """URL parameters of a page: reviewer, filters, and the page of the queue or the subject."""

    reviewer: str = Field(min_length=1, max_length=200)
    page: int = Field(default=1, ge=1)
    subject: str = ""
    id: str = ""
    query: str = ""

    @property
    def filters(self) -> Filters:
        """The filters alone."""
        return Filters(**{name: getattr(self, name) for name in Filters.model_fields})


def page_url(page: str, reviewer: str, filters: Filters, more: Mapping[str, Any] | None = None) -> str:
    """Return a relative URL. It does not contain the token."""
    return f"{page}?{urlencode({'reviewer': reviewer, **filters.changed(), **(more or {})})}"


def group_url(reviewer: str, filters: Filters, entry: QueueEntry | None) -> str | None:
    """Return the URL of an entry, or `None` without an entry."""
    if entry is None:
        return None
    kind, subject_id, query_id = entry.subject
    parameters = {"subject": kind, "id": subject_id} | ({"query": query_id} if query_id else {})
    return page_url("group", reviewer, filters, parameters)


def queue_page(session: ReviewSession, query: PageQuery) -> dict[str, Any]:
    """Return the values of one page of the queue."""
    reviewer, filters = reviewer_name(query.reviewer), query.filters
    queue = session.queue_of(reviewer)
    selected = queue.select(filters)
    pages = max(1, -(-len(selected) // ENTRIES_PER_PAGE))
    page = min(query.page, pages)
    discuss, disagreed = queue.disputed
    done, total = queue.progress
    known = session.by_subject.keys()
    return {
        "reviewer": reviewer,
        "filters": filters,
        "entries": [
            {
                "entry": e,
                "spans": entry_spans(e),
                "verdict": queue.verdicts.get(e.subject),
                "href": group_url(reviewer, filters, e),
            }
            for e in selected[(page - 1) * ENTRIES_PER_PAGE : page * ENTRIES_PER_PAGE]
        ],
        "selected": len(selected),
        "first": (page - 1) * ENTRIES_PER_PAGE + 1,
        "pages": pages,
        "page": page,
        "previous_page": page_url("queue", reviewer, filters, {"page": page - 1}) if page > 1 else None,
        "next_page": page_url("queue", reviewer, filters, {"page": page + 1}) if page < pages else None,
        "states": [
            (
                state,
                page_url("queue", reviewer, filters.model_copy(update={"state": state})),
                {"discuss": len(discuss & known), "disagreed": len(disagreed & known)}.get(state),
            )
            for state in STATES
        ],
        "start": page_url("next", reviewer, filters),
        "unfiltered": page_url("queue", reviewer, Filters()),
        "kinds": ("open", *KINDS),
        "attributes": session.attributes,
        "domains": session.domains,
        "has_new": bool(session.subjects.new),
        "others": [name for name in queue.reviewers if name != reviewer],
        "done": done,
        "total": total,
    }


def group_page(session: ReviewSession, query: PageQuery) -> dict[str, Any]:
    """Return the values of the page of one subject.

    Judgements, labels and other reviewers' verdicts are included only if the reviewer has decided.
    """
    reviewer, filters = reviewer_name(query.reviewer), query.filters
    subject: Subject = (query.subject, query.id, query.query)
    entry = session.entry(subject)
    queue = session.queue_of(reviewer)
    before, after = adjacent_entries(queue.select(filters), entry, filters)
    done, total = queue.progress
    verdict = queue.verdicts.get(subject)
    last = session.last_action(reviewer)
    return {
        "reviewer": reviewer,
        "entry": entry,
        "verdicts": VERDICTS[entry.subject[0]],
        "own_verdict": verdict,
        "previous": group_url(reviewer, filters, before),
        "next": group_url(reviewer, filters, after),
        "queue": page_url("queue", reviewer, filters),
        "last_action": last,
        "undo_url": group_url(reviewer, filters, session.by_subject[subject_of(last)]) if last else None,
        "done": done,
        "total": total,
        **_subject_values(session, subject),
        "revealed": _after_decision(session, queue, subject) if verdict else None,
    }


def _subject_values(session: ReviewSession, subject: Subject) -> dict[str, Any]:
    if subject[0] == "question":
        return _question_values(session, subject[1])
    if subject[0] == "passage":
        return _passage_values(session, subject)
    return _answers_values(session, subject)


def _answers_values(session: ReviewSession, subject: Subject) -> dict[str, Any]:
    """Return masked answers by version, in the drawn order and without the values."""
    _, question_id, model = subject
    question = session.subjects.questions[question_id]
    text, versions = masked_versions(
        question,
        session.subjects.responses.rows_of(question_id),
        session.subjects.answers[model, question_id],
        session.data_dir,
    )
    return {
        "question": None,
        "case": None,
        "answers": {
            "text": to_spans(text),
            "language": question.language,
            "versions": [
                {"variant": variant, "value": question.variants[variant].value, "texts": list(texts)}
                for variant, texts in versions
            ],
            "points": list(range(LOWEST, HIGHEST + 1)),
        },
    }


def _question_values(session: ReviewSession, question_id: str) -> dict[str, Any]:
    question = session.subjects.questions[question_id]
    return {
        "question": question,
        "template": tuple(mark_slots(question.template)),
        "variants": view_variants(question),
        "models": view_answers(question, session.subjects.responses.rows_of(question_id)),
        "case": None,
        "answers": None,
    }


def _passage_values(session: ReviewSession, subject: Subject) -> dict[str, Any]:
    case = session.subjects.passages[subject[2], subject[1]]
    return {"question": None, "case": view_passage(case), "answers": None}


def _after_decision(session: ReviewSession, queue: ReviewerQueue, subject: Subject) -> dict[str, Any]:
    """Return the information that is hidden until the reviewer has decided."""
    given = sorted(
        (name, verdicts[subject]) for name, verdicts in queue.all_verdicts.items() if subject in verdicts
    )
    others = [event for name, event in given if name != queue.reviewer]
    if subject[0] == "passage":
        change = session.subjects.passages[subject[2], subject[1]].change
        return {"others": others, "change": change, "judgements": [], "history": []}
    question = session.subjects.questions[subject[1]]
    judgements = session.subjects.judgements.rows_of(question.id)
    if subject[0] == "answers":
        judgements = [j for j in judgements if j.target == subject[2]]
    return {
        "others": others,
        "change": None,
        "kind": session.subjects.kinds[question.id],
        "fitness": question.fitness,
        "holdout_effect": question.holdout_effect,
        "judgements": view_judgements(question, judgements),
        "history": view_history(session.subjects, question),
    }
