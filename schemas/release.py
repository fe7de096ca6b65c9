"""Manifest of a release, comparison of two releases, and refresh decisions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from schemas.gate import Finding, Passport, Quarantine
from schemas.labels import StageCounts
from schemas.tables import Row

Bump = Literal["none", "patch", "minor", "major", "first"]


class ReleaseComparison(Row):
    """Changes since the last release: question ids by kind of change, schema changes and score drift."""

    old_version: str | None
    old_manifest: str | None = None
    """sha256 of the old release's manifest."""
    new_version: str
    bump: Bump
    added: tuple[str, ...]
    removed: tuple[str, ...]
    reworded: tuple[str, ...]
    relabelled: tuple[str, ...]
    schema_changes: tuple[str, ...]
    """Added, removed or changed columns, metrics and judges."""
    other_changes: tuple[str, ...] = ()
    """Descriptions of other changes, such as answers, scores or the licence."""
    common: int
    fitness_drift: float | None
    """Mean change of fitness over the common rows. `None` without common judged rows."""


Verdict = Literal["unchanged", "safe", "risky"]


class ReviewItem(Row):
    """A change to be checked before the release is published."""

    kind: Literal["effect_moved", "relabelled", "removed", "schema"]
    subject: str
    """Question id, slice with its metric, or column."""
    why: str


class RefreshDecision(Row):
    """Decision of a refresh: do nothing, publish, or propose for review."""

    verdict: Verdict
    reasons: tuple[str, ...]
    review: tuple[ReviewItem, ...]


class StageCost(BaseModel):
    """Calls, tokens and dollars of one stage with one model. Cached answers count at list price."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    model: str
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


def combine_costs(costs: Iterable[StageCost]) -> tuple[StageCost, ...]:
    """Sum costs by stage and model, in the order in which they first appear."""
    groups: dict[tuple[str, str], list[StageCost]] = {}
    for cost in costs:
        groups.setdefault((cost.stage, cost.model), []).append(cost)
    return tuple(
        StageCost(
            stage=stage,
            model=model,
            calls=sum(cost.calls for cost in group),
            tokens_in=sum(cost.tokens_in for cost in group),
            tokens_out=sum(cost.tokens_out for cost in group),
            cost_usd=round(sum(cost.cost_usd for cost in group), 6),
        )
        for (stage, model), group in groups.items()
    )


class HoldBack(BaseModel):
    """Hold-out set of private questions.

    The hash commits to the private file. The file contains unpredictable answers, so the questions cannot be
    guessed from the hash.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    questions: int
    sha256: str


class ClearOf(BaseModel):
    """An earlier release or file that the questions must not overlap."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    """`name@version` of a release, or a file name. Never a path."""
    compared: int
    """Number of questions or texts in it."""
    overlapping: int
    """Questions dropped as duplicates or near-duplicates of it."""


class NearMiss(BaseModel):
    """Two released questions with a similarity just below the duplicate threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    question_id: str
    other_id: str
    similarity: float
    """0 to 100, below the recipe's threshold."""


class RelabelledPassage(BaseModel):
    """An example of a relabelled passage with its evidence. Long texts are truncated."""

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
    """Summary of the human review, without the reviewers' names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    people: int
    questions: int
    """Groups with at least one reviewer."""
    passages: int
    """Passages with at least one reviewer."""
    kept: int
    dropped: int
    edited: int
    contested: int
    """Groups on which reviewers disagree. These are left unchanged."""
    undecided: int
    """Groups without a decision."""
    shared: int
    """Groups with two or more reviewers."""
    alpha: float | None
    """Krippendorff's alpha (nominal) on keep, drop and edit over shared groups, with its 95 % interval."""
    alpha_low: float | None
    alpha_high: float | None


class Manifest(BaseModel):
    """Inputs, costs and file hashes of a release.

    It is written last, so a directory without it is not a release. It contains no clock time and no path, so
    equal inputs give equal bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int = 1
    name: str
    version: str
    counterfoil_version: str
    recipe: dict[str, Any]
    recipe_hash: str
    seed: int
    models: dict[str, str | None]
    """Revision reported by the server, by model name."""
    vocabulary: dict[str, str]
    """sha256 of every file under data/ that was read (attributes, templates, prompts, rubrics, …)."""
    counts: tuple[StageCounts, ...]
    rows: dict[str, int]
    """Number of rows by config."""
    cost_estimated: tuple[StageCost, ...]
    cost: tuple[StageCost, ...]
    judged_by: tuple[str, ...]
    passports: tuple[Passport, ...] = ()
    """Audit results of the judges."""
    canary: str
    comparison: ReleaseComparison
    validation: dict[str, int]
    """`passed`, `warnings`, `errors`."""
    clear_of: tuple[ClearOf, ...] = ()
    """Earlier releases and files of `deduplicate.against`."""
    hold_back: HoldBack | None = None
    near_misses: tuple[NearMiss, ...] = ()
    """Pairs just below the duplicate threshold, most similar first."""
    passages: tuple[RelabelledPassage, ...] = ()
    """Examples of relabelled passages from the recipe's retrieval files."""
    warnings: tuple[Finding, ...] = ()
    """Findings of the gate that did not stop the release."""
    quarantine: Quarantine | None = None
    """Summary of removed questions, if the recipe sets `on_failure: quarantine`."""
    review: PeopleReview | None = None
    """Summary of the human review, or `None` without one."""
    files: dict[str, str]
    """sha256 of every other file, by path inside the release."""
