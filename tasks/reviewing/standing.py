"""What stands: reviewers' last words on every subject, and what they come to when all are taken together.

A reviewer says keep, drop, or another text; of a passage, whether it answers. What more than half of those
who decide say is settled. Where no side has more than half it is contested, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from schemas.review import KEEPING, UNDECIDED, PassageVerdict, QuestionVerdict, ReviewEvent
from schemas.tables import Row
from tasks.reviewing.events import Subject, last_words

Decision = Literal["keep", "drop", "edit", "answers", "helps", "does_not_answer", "contested", "undecided"]
Words = Mapping[Subject, Mapping[str, ReviewEvent]]
"""By subject and reviewer: the verdict or edit that stands."""

OPEN: tuple[Decision, ...] = ("contested", "undecided")
"""Decisions that change nothing."""
_ORDER = (*get_args(QuestionVerdict), *get_args(PassageVerdict))
_SIDES: dict[str, Decision] = {
    **{v: "keep" if v in KEEPING else "drop" for v in get_args(QuestionVerdict) if v not in UNDECIDED},
    "answers": "answers",
    "helps": "helps",
    "does_not_answer": "does_not_answer",
}
"""What a verdict decides; those that are not here decide nothing."""


class Settlement(Row):
    """What people's words on one subject come to."""

    subject: Literal["question", "passage"]
    subject_id: str
    query_id: str
    decision: Decision
    verdict: str | None
    """The commonest verdict of those who decided it, where they gave one."""
    template: str | None
    """Of an edit: the question's new text."""

    @property
    def settled(self) -> bool:
        """Whether it keeps, drops or changes anything."""
        return self.decision not in OPEN


def standing_words(events: Mapping[str, Iterable[ReviewEvent]]) -> dict[Subject, dict[str, ReviewEvent]]:
    """Last words by subject and reviewer, both in order. `events`: each reviewer's, oldest first."""
    found: dict[Subject, dict[str, ReviewEvent]] = {}
    for reviewer in sorted(events):
        for subject, event in last_words(events[reviewer]).items():
            found.setdefault(subject, {})[reviewer] = event
    return dict(sorted(found.items()))


def settle(words: Words) -> tuple[Settlement, ...]:
    """One settlement for every subject that anybody said anything of."""
    return tuple(_settle(subject, list(said.values())) for subject, said in sorted(words.items()))


def side_of(event: ReviewEvent) -> tuple[Decision, str | None] | None:
    """What a word decides, and for an edit the text that it wants; `None` where it decides nothing."""
    if event.action == "edit":
        return "edit", event.template
    side = _SIDES.get(event.verdict or "")
    return (side, None) if side else None


def _settle(subject: Subject, said: list[ReviewEvent]) -> Settlement:
    sides = [side for event in said if (side := side_of(event)) is not None]
    decision: Decision = "contested" if sides else "undecided"
    template = verdict = None
    if sides:
        (leading, votes), *_ = Counter(sides).most_common()
        if 2 * votes > len(sides):
            decision, template = leading
            verdict = _commonest(e.verdict for e in said if side_of(e) == leading)
    kind, subject_id, query_id = subject
    return Settlement(
        subject="passage" if kind == "passage" else "question",
        subject_id=subject_id,
        query_id=query_id,
        decision=decision,
        verdict=verdict,
        template=template,
    )


def _commonest(verdicts: Iterable[str | None]) -> str | None:
    """Of equally common ones the first in the order in which verdicts are listed."""
    count = Counter(v for v in verdicts if v is not None)
    return min(count, key=lambda v: (-count[v], _ORDER.index(v)), default=None)
