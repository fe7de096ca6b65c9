"""The desk that reviewers sit at: the material, everybody's words so far, and the one way to add to them."""

from __future__ import annotations

from pathlib import Path
from threading import RLock
from typing import Literal, get_args

from pydantic import Field

from schemas.errors import InputError
from schemas.review import Act, PassageVerdict, QuestionVerdict, ReviewEvent
from schemas.tables import Row
from tasks.reviewing.entries import Entry, list_entries
from tasks.reviewing.events import ReviewLog, Subject, last_words, reviewer_name, subject_of
from tasks.reviewing.material import Material
from tasks.reviewing.queue import Turn, assigned_to
from tasks.reviewing.rewording import Wording, reword

VERDICTS: dict[str, tuple[str, ...]] = {
    "question": get_args(QuestionVerdict),
    "passage": get_args(PassageVerdict),
}


class Submission(Row):
    """What the page sends when a reviewer acts."""

    reviewer: str = Field(max_length=200)
    action: Literal["verdict", "edit", "undo"]
    subject: Literal["question", "passage"]
    subject_id: str = Field(max_length=2_000)
    query_id: str = Field(default="", max_length=2_000)
    verdict: QuestionVerdict | PassageVerdict | None = None
    note: str = Field(default="", max_length=20_000)
    template: str | None = None
    undoes: str | None = None
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Desk:
    """Safe to use from several threads; other processes may write to the same reviews meanwhile."""

    def __init__(
        self, material: Material, reviews: Path, data_dir: Path, named: tuple[str, ...] = ()
    ) -> None:
        self.material = material
        self.data_dir = data_dir
        self.named = tuple(reviewer_name(name) for name in named)
        self.entries = list_entries(material)
        self.by_subject = {entry.subject: entry for entry in self.entries}
        self.attributes = sorted({entry.attribute for entry in self.entries} - {""})
        self.domains = sorted({entry.domain for entry in self.entries} - {""})
        self._log = ReviewLog(reviews)
        self.torn = tuple(self._log.torn)
        """Files whose last line a crash had torn when the desk was opened."""
        self._lock = RLock()
        self._shares: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        self._words: dict[str, tuple[int, dict[Subject, ReviewEvent]]] = {}

    def turn(self, reviewer: str) -> Turn:
        """That reviewer's turn, as things stand on disk now."""
        with self._lock:
            self._log.refresh()
            said = {name: self._last_words(name, events) for name, events in self._log.events.items()}
            names = tuple(sorted({*self.named, *said, reviewer}))
            if names not in self._shares:
                overlap = self.material.overlap
                self._shares[names] = [assigned_to(e.subject, names, overlap) for e in self.entries]
        return Turn(reviewer, names, said, self.entries, self._shares[names])

    def known_reviewers(self) -> tuple[str, ...]:
        with self._lock:
            self._log.refresh()
            return tuple(sorted({*self.named, *self._log.events}))

    def latest(self, reviewer: str) -> ReviewEvent | None:
        """What an undo would take back: the last verdict or edit on anything here that was not undone."""
        with self._lock:
            events = self._log.events.get(reviewer, [])
        undone = {event.undoes for event in events if event.action == "undo"}
        acts = (e for e in reversed(events) if e.action != "undo" and e.id not in undone)
        return next((e for e in acts if subject_of(e) in self.by_subject), None)

    def check(self, question_id: str, text: str) -> Wording:
        """What a new wording of a question comes to."""
        question = self.material.questions.get(question_id)
        if question is None:
            raise InputError(f"there is no question {question_id!r} here")
        return reword(question, text, known=self.material.questions, data_dir=self.data_dir)

    def record(self, submission: Submission) -> ReviewEvent:
        """Store what a reviewer did: on disk when this returns. `InputError` where it makes no sense."""
        act = self._act_of(submission)
        with self._lock:
            return self._log.append(submission.reviewer, [act])[0]

    def _act_of(self, s: Submission) -> Act:
        subject = (s.subject, s.subject_id, s.query_id)
        if subject not in self.by_subject:
            raise InputError(f"there is no {s.subject} {s.subject_id!r} here")
        about = {"action": s.action, "subject": s.subject, "subject_id": s.subject_id, "query_id": s.query_id}
        shared = {**about, "note": s.note.strip(), "seconds": s.seconds}
        if s.action == "undo":
            self._check_undo(s, subject)
            return Act.model_validate({**about, "undoes": s.undoes})
        if s.action == "edit":
            wording = self._wording_of(s)
            return Act.model_validate(
                {**shared, "template": wording.template, "replaced_by": wording.question_id}
            )
        if s.verdict not in VERDICTS[s.subject]:
            raise InputError(f"{s.verdict!r} is no verdict on a {s.subject}")
        return Act.model_validate({**shared, "verdict": s.verdict})

    def _wording_of(self, s: Submission) -> Wording:
        if s.subject != "question":
            raise InputError("only a question's text can be changed")
        wording = self.check(s.subject_id, s.template or "")
        if wording.fault:
            raise InputError(wording.fault, hint=wording.hint)
        return wording

    def _check_undo(self, s: Submission, subject: Subject) -> None:
        with self._lock:
            self._log.refresh()
            events = self._log.events.get(reviewer_name(s.reviewer), [])
        if not any(e.id == s.undoes and e.action != "undo" and subject_of(e) == subject for e in events):
            raise InputError("there is nothing of yours to take back")

    def _last_words(self, name: str, events: list[ReviewEvent]) -> dict[Subject, ReviewEvent]:
        length, words = self._words.get(name, (-1, {}))
        if length != len(events):
            words = last_words(events)
            self._words[name] = (len(events), words)
        return words

    def entry(self, subject: Subject) -> Entry:
        """Raises `InputError` for a subject that is not here."""
        found = self.by_subject.get(subject)
        if found is None:
            raise InputError(f"there is no {subject[0]} {subject[1]!r} here")
        return found
