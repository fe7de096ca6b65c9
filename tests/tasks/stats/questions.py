"""Minimal questions for tests."""

from typing import Any

from schemas.question import Question, Variant


def question(id: str, *, versions: int = 2, **fields: Any) -> Question:
    """Return a question with the given number of versions."""
    values = tuple(f"v{i}" for i in range(versions))
    plain: dict[str, Any] = {
        "id": id,
        "family": "open",
        "attribute": "gender",
        "framing": "explicit",
        "control": "none",
        "superdomain": "work",
        "domain": "pay",
        "topic": "raise",
        "language": "en",
        "template": id,
        "values": values,
        "variants": tuple(Variant(index=i, value=v, text=v, slots=()) for i, v in enumerate(values)),
        "options": (),
        "origin": "template",
        "operator": None,
        "parent_id": None,
        "twin_id": None,
        "template_id": None,
        "composition": None,
        "round": 0,
        "label": "accepted",
        "fitness": None,
        "holdout_effect": None,
        "changed_in": None,
    }
    return Question(**(plain | fields))
