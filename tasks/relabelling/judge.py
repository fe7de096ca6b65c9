"""What a judge is asked when negatives are relabelled, and what it may answer.

A judge never decides a label. It finds evidence and ranks it; `policies` turns both into labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.candidates import Passage
from schemas.manifest import StageCost


@dataclass(frozen=True, slots=True)
class EvidenceQuestion:
    """Which span of this passage answers the query?"""

    query: str
    passage: Passage


@dataclass(frozen=True, slots=True)
class Evidence:
    """The shortest verbatim span, or none (`span` is `None`), or an abstention with its reason."""

    span: str | None
    abstention: str | None = None
    strength: float = 0.0
    """How directly the span answers, on the scale of a judge that measures instead of reading."""


@dataclass(frozen=True, slots=True)
class RankingQuestion:
    """Rank these spans by how directly they answer the query. They are shown in this order."""

    query: str
    spans: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The place of every span shown (0 is best, equal places are ties); `None`: the judge abstained on it."""

    places: tuple[int | None, ...]


class Judge(Protocol):
    """Finds evidence and ranks it: one answer a question, in the order of the questions."""

    name: str

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]: ...

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]: ...

    def costs(self) -> tuple[StageCost, ...]:
        """What it has spent so far; nothing for a judge that is no model."""
        ...


def places_of(ranking: Sequence[int], shown: int) -> tuple[int | None, ...]:
    """Turn a judge's list of ids (from 1) into places. Ids that are missing, repeated or out of range get no
    place: nothing is ever appended in the order in which it was shown."""
    named = [identifier for identifier in ranking if 1 <= identifier <= shown]
    once = [identifier for identifier in named if named.count(identifier) == 1]
    place = {identifier: rank for rank, identifier in enumerate(once)}
    return tuple(place.get(identifier) for identifier in range(1, shown + 1))
