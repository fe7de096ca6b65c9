"""Notes of finished stages: small results that are not tables, stored as JSON in `step.json`."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field

from schemas.release import ClearOf, NearMiss, RelabelledPassage
from schemas.tables import Row, canonical_json


class StageNotes(BaseModel):
    """Notes of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """Return the notes as they are stored."""
        return canonical_json(self.model_dump(mode="json", exclude_unset=True))


class SearchNotes(StageNotes):
    """Notes of a stage of the search, stored with spaces between the parts."""

    def to_json(self) -> str:
        """Return the notes as they are stored."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


class MutationNotes(SearchNotes):
    """Exploration in a round of the search."""

    round: int
    opened: tuple[str, ...]
    """Domains that were opened, as `superdomain/domain`."""
    fluency_read: int
    """Questions that the fluency judge read."""
    fluency_abstained: int


class SelectionNotes(SearchNotes):
    """Outcome of a round of the search."""

    round: int
    fitness_form: str
    threshold: float
    accepted: int
    """Accepted open questions of this round."""
    accepted_in_all: int
    """Accepted open questions of all rounds."""
    below_threshold: int
    controls: int


class VariationNotes(SearchNotes):
    """Outcomes of the variants that the recipe requests."""

    wanted: int
    made: int
    given_up: dict[str, int]
    """Variants that could not be made, by principle."""
    rejected: dict[str, int]
    """Wordings that broke a rule or changed the meaning, by reason."""
    judge: str
    """Judge that compared the meanings. Empty if no judge is of another model family."""


class PairNote(BaseModel):
    """Two questions with a similarity close to the duplicate threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    other: str
    similarity: float
    """0 to 100."""
    kind: str | None = None
    """Kind of duplicate, for merged pairs."""


class DeduplicationNotes(StageNotes):
    """Overlap with earlier releases, and the pairs on both sides of the threshold."""

    clear_of: tuple[ClearOf, ...]
    duplicate_ratio: float
    least_similar: tuple[PairNote, ...]
    """The least similar merged pairs."""
    near_misses: tuple[PairNote, ...]
    """The most similar pairs that were not merged."""

    def kept_pairs(self) -> tuple[NearMiss, ...]:
        """Return the near misses as the manifest lists them."""
        return tuple(
            NearMiss(question_id=pair.id, other_id=pair.other, similarity=pair.similarity)
            for pair in self.near_misses
        )


class RelabelNotes(StageNotes):
    """Examples of relabelled passages of a retrieval file."""

    examples: tuple[RelabelledPassage, ...]


class CarryOverNotes(StageNotes):
    """Which questions of the last release are asked again, and why others are not."""

    version: str
    """Version that they are carried over from."""
    questions: int
    """Questions of that version that could be asked again."""
    anchors: int
    too_old: int
    """Questions in `refresh.max_age` versions."""
    saturated: int
    """Questions that no longer distinguish models."""
    suspected: int = 0
    """Questions that a model reproduced."""


class MaterialTopic(Row):
    """A topic that a model made of a news item or a document."""

    id: str
    title: str
    situation: str
    kind: str
    date: str
    """Date of the item, as its source writes it. Empty if it has none."""
    source: str


class MaterialNotes(StageNotes):
    """Topics that a model made of the material of a refresh."""

    topics: tuple[MaterialTopic, ...]
    left_out: dict[str, int] = Field(default_factory=dict)
    """Number of items without a topic, by reason."""
