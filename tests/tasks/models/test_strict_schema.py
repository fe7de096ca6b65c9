"""Schemas have the form that strict servers accept and grammars enforce."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from tasks.models.structured import strict_schema


class Reason(BaseModel):
    text: str = Field(max_length=200, description="in one sentence")


class Verdict(BaseModel):
    reasons: list[Reason]
    score: int = Field(ge=1, le=5)
    position: int = Field(gt=0, lt=4)
    label: Literal["yes", "no"] = "no"
    comment: str | None = None
    weight: float = Field(default=0.5, ge=0, le=1)


def test_every_property_is_required_closed_and_in_the_types_order() -> None:
    schema = strict_schema(Verdict).schema
    assert schema["required"] == list(Verdict.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Reason"]["required"] == ["text"]
    assert schema["$defs"]["Reason"]["additionalProperties"] is False


def test_integer_ranges_are_enums_because_grammars_ignore_bounds() -> None:
    properties = strict_schema(Verdict).schema["properties"]
    assert properties["score"] == {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    assert properties["position"]["enum"] == [1, 2, 3]
    assert properties["weight"] == {"type": "number"}
    assert properties["label"]["enum"] == ["yes", "no"]
    assert properties["comment"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_a_free_form_mapping_is_refused() -> None:
    class Loose(BaseModel):
        anything: dict[str, int]

    with pytest.raises(TypeError, match="name its fields"):
        strict_schema(Loose)
