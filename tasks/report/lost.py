"""Read the questions that a release dropped."""

from __future__ import annotations

import json
from collections.abc import Sequence

from schemas.labels import Dropped
from schemas.question import Question


def dropped_questions(dropped: Sequence[Dropped]) -> list[Question]:
    """Return the dropped questions, each once. A question may have been made and dropped repeatedly.

    Repetitions of an existing question (`because_of` is its own id) and held-back questions (without text)
    are left out.
    """
    records = {
        d.record
        for d in dropped
        if d.kind == "question" and d.text and d.because_of != json.loads(d.record)["id"]
    }
    by_id = {q.id: q for q in map(Question.model_validate_json, sorted(records))}
    return list(by_id.values())
