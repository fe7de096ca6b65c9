"""Reviews as Label Studio tasks: https://labelstud.io/guide/task_format

The labeling configuration that goes with them is data/review/label_studio.xml. Label Studio gives annotations
to whoever imports them, so a text field `reviewer` says whose they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.ids import canonical_json
from tasks.reviewing.exchange import Line, Said, Shown, labels_of, line_of, read_records, said_of
from tasks.reviewing.standing import Words
from tasks.store import write_bytes

CONFIG = "review/label_studio.xml"
TEXTS = {"reviewer": "reviewer", "note": "note", "new_text": "template"}
"""Text fields of the configuration, and what they hold."""


def write_tasks(path: Path, shown: Iterable[Shown], words: Words) -> None:
    """One task a subject, its annotations those that stand."""
    tasks: list[dict[str, Any]] = [
        {
            "data": {
                **subject.model_dump(exclude={"about"}),
                "about": "; ".join(f"{name}: {value}" for name, value in subject.about.items()),
                "choices": [{"value": label} for label in labels_of(subject.subject)],
            },
            "annotations": [_annotation(said) for said in said_of(words, subject)],
        }
        for subject in shown
    ]
    write_bytes(path, canonical_json(tasks).encode() + b"\n")


def _annotation(said: Said) -> dict[str, Any]:
    texts = [
        _region(field, "textarea", {"text": [text]})
        for field, name in TEXTS.items()
        if (text := getattr(said, name))
    ]
    choice = _region("verdict", "choices", {"choices": [said.verdict]})
    return {"result": [choice, *texts], "was_cancelled": False, "ground_truth": False}


def _region(field: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": field, "to_name": "text", "type": kind, "value": value, "origin": "manual"}


def read_tasks(path: Path) -> list[Line]:
    """Every annotation with a verdict, the oldest of a task first; skipped ones are left out."""
    lines = []
    for at, task in enumerate(read_records(path), start=1):
        for annotation in _oldest_first(task.get("annotations")):
            place = f"{path}, task {at}"
            found = _results(annotation, place)
            if not annotation.get("was_cancelled") and found.get("verdict"):
                reviewer = found.get("reviewer") or _completed_by(annotation, place)
                said = {"reviewer": reviewer, "verdict": found["verdict"], "note": found.get("note", "")}
                data = task.get("data")
                lines.append(
                    line_of(
                        place,
                        data if isinstance(data, dict) else {},
                        {**said, "template": found.get("new_text", "")},
                    )
                )
    return lines


def _oldest_first(annotations: Any) -> Sequence[dict[str, Any]]:
    found = [a for a in annotations or () if isinstance(a, dict)]
    return sorted(found, key=lambda a: str(a.get("created_at") or ""))


def _results(annotation: Mapping[str, Any], place: str) -> dict[str, str]:
    """What stands in each field of the configuration."""
    found = {}
    for region in annotation.get("result") or ():
        try:
            value = region["value"]
            texts = value.get("choices") or value.get("text") or ()
            found[region["from_name"]] = "\n".join([texts] if isinstance(texts, str) else texts)
        except (KeyError, TypeError, AttributeError):
            raise InputError("an annotation that cannot be read", place=place) from None
    return found


def _completed_by(annotation: Mapping[str, Any], place: str) -> str:
    """A user of Label Studio: an id, or an object."""
    user = annotation.get("completed_by")
    if isinstance(user, dict):
        user = user.get("email") or user.get("id")
    if not user:
        raise InputError("an annotation of nobody", place=place, hint="fill in its field `reviewer`")
    return f"Label Studio user {user}" if isinstance(user, int) else str(user)
