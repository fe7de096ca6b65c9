"""Reviews as Argilla records: what `dataset.records.to_json` writes and `from_json` reads (Argilla 2).

The settings of the dataset that takes them are data/review/argilla.json. Argilla knows its users by UUID: a
reviewer's is made from the name, and turned back into it for names that are known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from schemas.errors import InputError
from schemas.ids import canonical_json, content_id
from tasks.reviewing.exchange import Line, Said, Shown, line_of, read_records, said_of
from tasks.reviewing.standing import Words
from tasks.store import write_bytes

SETTINGS = "review/argilla.json"
QUESTIONS = {"verdict": "verdict", "note": "note", "new_text": "template"}
"""Questions of the settings, and what they hold."""


def user_id(reviewer: str) -> str:
    """The UUID that stands for a reviewer."""
    return str(uuid5(NAMESPACE_URL, f"counterfoil:reviewer:{reviewer}"))


def write_records(path: Path, shown: Iterable[Shown], words: Words) -> None:
    """One record a subject, its responses those that stand."""
    records = [
        {
            "id": content_id("s", list(subject.key)),
            "fields": {"text": subject.text, "context": subject.context or "–"},
            "metadata": {
                **subject.about,
                **subject.model_dump(include={"subject", "subject_id", "query_id"}),
            },
            "suggestions": {},
            "responses": _responses(said_of(words, subject)),
            "vectors": {},
        }
        for subject in shown
    ]
    write_bytes(path, canonical_json(records).encode() + b"\n")


def _responses(said: Iterable[Said]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for one in said:
        for question, name in QUESTIONS.items():
            if value := getattr(one, name):
                response = {"value": value, "user_id": user_id(one.reviewer), "status": "submitted"}
                found.setdefault(question, []).append(response)
    return found


def read_responses(path: Path, reviewers: Iterable[str]) -> list[Line]:
    """Every submitted verdict. `reviewers`: names that are known here."""
    names = {user_id(name): name for name in reviewers}
    lines = []
    for at, record in enumerate(read_records(path), start=1):
        place = f"{path}, record {at}"
        for user, found in _by_user(record, place).items():
            if found.get("verdict"):
                said = {"reviewer": names.get(user, f"Argilla user {user}"), "verdict": found["verdict"]}
                more = {"note": found.get("note", ""), "template": found.get("new_text", "")}
                metadata = record.get("metadata")
                lines.append(line_of(place, metadata if isinstance(metadata, dict) else {}, {**said, **more}))
    return lines


def _by_user(record: Mapping[str, Any], place: str) -> dict[str, dict[str, str]]:
    """By user what they answered to each question; drafts and discarded answers are left out."""
    found: dict[str, dict[str, str]] = {}
    try:
        for question, responses in (record.get("responses") or {}).items():
            for response in responses:
                if response.get("status") in (None, "submitted"):
                    found.setdefault(str(response["user_id"]), {})[question] = str(response["value"])
    except (KeyError, TypeError, AttributeError):
        raise InputError("responses that cannot be read", place=place) from None
    return found
