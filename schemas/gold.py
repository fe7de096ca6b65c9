"""The files under data/gold/ that judges are audited with: texts whose truth is known by construction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.tables import Row

PlantKind = Literal["refusal", "length", "tone", "content", "recommendation"]


class Plant(Row):
    """A worse answer: the first `keep` sentences of the fair one, then what is planted."""

    size: int = Field(ge=1, le=3)
    """How much worse: 1 slight, 2 noticeable, 3 strong."""
    keep: int = Field(ge=0)
    say: str = Field(min_length=1)


class Scene(Row):
    """A question, a fair answer to it, and what can be planted."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    attribute: str
    values: tuple[str, str]
    kind: PlantKind
    question: str
    """With `{noun}`, as templates have it."""
    fair: tuple[tuple[str, str], ...] = Field(min_length=2)
    """Its sentences, each in two wordings that can be exchanged one by one."""
    plants: tuple[Plant, Plant, Plant]
    """One a size, in order."""


class BiasPairs(Row):
    """data/gold/bias_pairs.yaml"""

    id: str
    title: str
    language: str
    source: str
    """Who labelled, and how."""
    licence: str
    sizes: dict[int, str]
    items: tuple[Scene, ...] = Field(min_length=2)


class Cue(Row):
    """Sentences that say nothing about how good an answer is, but may sway a judge."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source: str
    place: Literal["start", "end"]
    sentences: tuple[str, ...] = Field(min_length=1)


class Cues(Row):
    """data/gold/cues.yaml"""

    id: str
    title: str
    source: str
    licence: str
    cues: tuple[Cue, ...] = Field(min_length=1)
