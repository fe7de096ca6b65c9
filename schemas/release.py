"""What changed between two releases, and which version number follows from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from schemas.gate import Finding, Passport, Quarantine
from schemas.labels import StageCounts
from schemas.tables import Row

Bump = Literal["none", "patch", "minor", "major", "first"]


class ReleaseComparison(Row):
    """Stable ids that were added, removed, reworded or relabelled, and how scores moved in between."""

    old_version: str | None
    old_manifest: str | None = None
    """sha256 of the manifest of the release that this one was compared with."""
    new_version: str
    bump: Bump
    added: tuple[str, ...]
    removed: tuple[str, ...]
    reworded: tuple[str, ...]
    relabelled: tuple[str, ...]
    schema_changes: tuple[str, ...]
    """Columns, metrics and judges that came, went or changed."""
    other_changes: tuple[str, ...] = ()
    """What else is not as it was (answers, scores, the licence), in words."""
    common: int
    fitness_drift: float | None
    """Mean change of fitness over the common rows; `None` without common judged rows."""


# What a refresh decided, and why.


Verdict = Literal["unchanged", "safe", "risky"]


class ReviewItem(Row):
    """Something a person should look at before the release goes out."""

    kind: Literal["effect_moved", "relabelled", "removed", "schema"]
    subject: str
    """A question's id, a slice with its metric, or a column."""
    why: str


class RefreshDecision(Row):
    """Publish it, propose it, or leave it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    review: tuple[ReviewItem, ...]


# The manifest: what a release was made from, by what, and the hash of every file in it.


class StageCost(BaseModel):
    """Calls, tokens and dollars of one stage with one model. Cached answers count at their price."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    model: str
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


class HoldBack(BaseModel):
    """Questions that were kept private. The hash commits to the private file; the answers in it are what
    nobody can guess, so that it tells nothing of the questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    questions: int
    sha256: str


class ClearOf(BaseModel):
    """An earlier release or file that the questions were compared with."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    """`name@version` of a release, the name of a file; never a path."""
    compared: int
    """Questions or texts in it."""
    overlapping: int
    """Questions that were dropped because they stand in it, or nearly."""


class NearMiss(BaseModel):
    """Two released questions that are nearly near-duplicates."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    question_id: str
    other_id: str
    similarity: float
    """0 to 100, below the recipe's threshold."""


class RelabelledPassage(BaseModel):
    """An example of a passage whose label changed, with the texts that decided; long ones are cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    query_id: str
    query: str
    passage_id: str
    passage: str
    before: str
    after: str
    reason: str
    judge: str
    evidence: str | None


class PeopleReview(BaseModel):
    """What people made of the questions. Tells how many they were, never who."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    people: int
    questions: int
    """Groups that at least one of them looked at."""
    passages: int
    """Passages that at least one of them looked at."""
    kept: int
    dropped: int
    edited: int
    contested: int
    """Groups on which they are divided; these stay as they are."""
    undecided: int
    """Groups of which they decided nothing."""
    shared: int
    """Groups that two or more of them looked at."""
    alpha: float | None
    """Krippendorff's alpha (nominal) on keep, drop and edit over these, with its 95 % interval."""
    alpha_low: float | None
    alpha_high: float | None


class Manifest(BaseModel):
    """Written last; a directory without it is not a release. Holds no clock time and no path, so that the
    same inputs give the same bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int = 1
    name: str
    version: str
    counterfoil_version: str
    recipe: dict[str, Any]
    recipe_hash: str
    seed: int
    models: dict[str, str | None]
    """Model name to the revision its server reported."""
    vocabulary: dict[str, str]
    """Every file under data/ that was read (attributes, templates, prompts, rubrics, …), by sha256."""
    counts: tuple[StageCounts, ...]
    rows: dict[str, int]
    """Rows per config."""
    cost_estimated: tuple[StageCost, ...]
    cost: tuple[StageCost, ...]
    judged_by: tuple[str, ...]
    passports: tuple[Passport, ...] = ()
    """What the audit found of the judges."""
    canary: str
    comparison: ReleaseComparison
    validation: dict[str, int]
    """`passed`, `warnings`, `errors`."""
    clear_of: tuple[ClearOf, ...] = ()
    """What the recipe stays clear of (`deduplicate.against`)."""
    hold_back: HoldBack | None = None
    near_misses: tuple[NearMiss, ...] = ()
    """Pairs just below the threshold of duplicates, most alike first."""
    passages: tuple[RelabelledPassage, ...] = ()
    """Examples of what relabelling made of the recipe's retrieval files."""
    warnings: tuple[Finding, ...] = ()
    """What the gate tells without stopping."""
    quarantine: Quarantine | None = None
    """Questions that failed a check and were taken out, where the recipe says so."""
    review: PeopleReview | None = None
    """What people looked at; none where nobody did."""
    files: dict[str, str]
    """Path inside the release to sha256, for every file but this one."""
