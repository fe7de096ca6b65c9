"""Reviews to and from other tools: what is exported, and how what comes back becomes events.

Importing appends. What a reviewer has said of a subject before is not said again, so that an old file takes
nothing back that was decided since.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from schemas.errors import InputError
from schemas.review import Act, PassageVerdict, QuestionVerdict, ReviewEvent
from schemas.tables import Row
from tasks.reviewing.events import Subject, reviewer_name, subject_of
from tasks.reviewing.standing import Words

VERDICTS: Mapping[str, tuple[str, ...]] = {
    "question": get_args(QuestionVerdict),
    "passage": get_args(PassageVerdict),
}
EDIT = "edit"
"""Stands for a verdict where a reviewer wants another text."""


class Shown(Row):
    """A subject as other tools show it."""

    subject: Literal["question", "passage"]
    subject_id: str
    query_id: str = ""
    text: str
    """The question's template, or the passage."""
    context: str = ""
    """The variants one below the other, or the query."""
    about: Mapping[str, str] = {}
    """What it is filtered by: attribute, domain, label, …"""

    @property
    def key(self) -> Subject:
        return self.subject, self.subject_id, self.query_id


class Said(Row):
    """What one reviewer says of one subject, as it stands in an exchanged file."""

    reviewer: str
    verdict: str
    """A verdict, or `edit`."""
    note: str = ""
    template: str = ""
    """Of an edit: the new text."""


class Line(Row):
    """One entry of a file that is read: what was said of whom, and where it stands."""

    subject: Subject
    said: Said
    place: str


Check = Callable[[str, str], tuple[str, str]]
"""(question id, new text) → the text as it is kept, and the id of the question that it makes. Raises
`InputError` where it makes none."""


def said_of(words: Words, shown: Shown) -> list[Said]:
    """What stands of a subject, by reviewer."""
    return [_said(name, event) for name, event in sorted(words.get(shown.key, {}).items())]


def _said(reviewer: str, event: ReviewEvent) -> Said:
    verdict = EDIT if event.action == "edit" else event.verdict or ""
    return Said(reviewer=reviewer, verdict=verdict, note=event.note, template=event.template or "")


def acts_of(
    lines: Iterable[Line], shown: Sequence[Shown], events: Mapping[str, Iterable[ReviewEvent]], check: Check
) -> dict[str, list[Act]]:
    """By reviewer what the lines say and `events` (theirs so far) do not.

    Raises `InputError` with file and row for a subject that is not here, a verdict that there is not, or a
    text that makes no question: then nothing is to be stored.
    """
    known = {s.key for s in shown}
    before = {
        (name, subject_of(e), e.verdict, e.template, e.note) for name, said in events.items() for e in said
    }
    acts: dict[str, list[Act]] = {}
    for line in lines:
        if line.subject not in known:
            raise InputError(
                f"there is no {line.subject[0]} {line.subject[1]!r} here",
                place=line.place,
                hint="import into the run or release that the file was exported from",
            )
        act = _edit(line, check) if line.said.verdict == EDIT else _verdict(line)
        name = reviewer_name(line.said.reviewer)
        if (name, line.subject, act.verdict, act.template, act.note) not in before:
            acts.setdefault(name, []).append(act)
    return acts


def _edit(line: Line, check: Check) -> Act:
    kind, subject_id, _ = line.subject
    try:
        if kind != "question":
            raise InputError("only a question's text can be changed")
        template, made = check(subject_id, line.said.template)
    except InputError as error:
        raise InputError(error.message, place=line.place, hint=error.hint) from None
    return Act.model_validate({**_about(line), "action": "edit", "template": template, "replaced_by": made})


def _verdict(line: Line) -> Act:
    kind = line.subject[0]
    if line.said.verdict not in VERDICTS.get(kind, ()):
        raise InputError(
            f"{line.said.verdict!r} is no verdict on a {kind}",
            place=line.place,
            hint=f"there are: {', '.join(labels_of(kind))}",
        )
    return Act.model_validate({**_about(line), "action": "verdict", "verdict": line.said.verdict})


def _about(line: Line) -> dict[str, str]:
    kind, subject_id, query_id = line.subject
    return {"subject": kind, "subject_id": subject_id, "query_id": query_id, "note": line.said.note.strip()}


def labels_of(kind: str) -> tuple[str, ...]:
    """What may be said of a subject of that kind."""
    return (*VERDICTS[kind], EDIT) if kind == "question" else VERDICTS[kind]


def read_records(path: Path) -> list[dict[str, Any]]:
    """A file that holds one JSON list of objects. Raises `InputError` where it does not."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as JSON: {error}", place=str(path)) from None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError("must be one list of objects", place=str(path))
    return found


def line_of(place: str, subject: Mapping[str, Any], said: Mapping[str, Any]) -> Line:
    """One entry. Raises `InputError` with its place where something is missing or of another type."""
    try:
        return Line(
            subject=(str(subject["subject"]), str(subject["subject_id"]), str(subject.get("query_id") or "")),
            said=Said.model_validate(said),
            place=place,
        )
    except KeyError as error:
        raise InputError(f"has no {error.args[0]!r}", place=place) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]}: {first['msg']}", place=place) from None
