"""Effects: what was measured, over which slice, with its interval and its multiplicity-corrected p."""

from __future__ import annotations

from typing import Literal

from schemas.tables import Row, Table


class Effect(Row):
    """One number with a 95 % interval (`low`, `high`)."""

    id: str
    level: Literal["question", "domain", "superdomain", "attribute", "family", "control", "overall"]
    name: str
    """The slice: a question id, a domain, an attribute, …"""
    family: str
    attribute: str
    model: str
    condition: str = "plain"
    """In which way the questions were asked (see `Response.condition`)."""
    metric: str
    unit: str
    value: float
    low: float | None
    high: float | None
    p_value: float | None
    q_value: float | None
    """Benjamini-Hochberg over the slices of one level of one report."""
    n: int
    """Independent units behind the value (questions, scenarios, …)."""


EFFECTS: Table[Effect] = Table("effects", Effect, key="id")
