"""Manifest of a release, comparison of two releases, and refresh decisions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from schemas.gate import Finding, Passport, Quarantine
from schemas.labels import StageCounts
from schemas.recipe import MAX_COUNT, Slug
from schemas.tables import Row

Bump = Literal["none", "patch", "minor", "major", "first"]


def _check_version(version: str) -> str:
    if not re.fullmatch(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}", version):
        raise ValueError("it is not written as `major.minor.patch`, e.g. 1.2.0")
    return version


Version = Annotated[str, AfterValidator(_check_version)]
"""A version such as 1.2.0. It is the name of a folder, so nothing else may be in it."""


class ReleaseComparison(Row):
    """Changes since the last release: question ids by kind of change, schema changes and score drift."""

    old_version: Version | None
    old_manifest: str | None = None
    """sha256 of the old release's manifest."""
    new_version: Version
    bump: Bump
    added: tuple[str, ...]
    removed: tuple[str, ...]
    reworded: tuple[str, ...]
    relabelled: tuple[str, ...]
    schema_changes: tuple[str, ...]
    """Added, removed or changed columns, metrics and judges."""
    other_changes: tuple[str, ...] = ()
    """Descriptions of other changes, such as answers, scores or the licence."""
    recipe_changes: tuple[str, ...] = ()
    """Changes of the recipe that change the meaning of scores."""
    common: int
    fitness_drift: float | None
    """Mean change of fitness over the common rows. `None` without common judged rows."""


Verdict = Literal["unchanged", "safe", "risky"]


class ReviewItem(Row):
    """A change to be checked before the release is published."""

    kind: Literal[
        "effect_moved", "relabelled", "schema", "coverage", "controls", "inconclusive", "contamination"
    ]
    subject: str
    """Question id, slice with its metric, column, or model."""
    why: str


class ComparedSlice(Row):
    """Result of a refresh for one attribute, family and model. Differences are new minus old."""

    attribute: str
    family: str
    model: str
    metric: str
    unit: str
    common: int
    """Independent questions that both releases measured."""
    rest_old: int
    """Independent questions that only the old release measured."""
    rest_new: int
    mean_old: float
    mean_new: float
    paired: float | None
    """Mean change of the common questions. `None` if they are too few."""
    paired_p: float | None
    unpaired: float | None
    """Difference of the means of the other questions. `None` if they are too few."""
    unpaired_p: float | None
    difference: float | None
    """Both estimates, weighted by their precision."""
    low: float | None
    """Bounds of the 90 % interval of `difference`."""
    high: float | None
    margin: float
    """Largest difference that does not matter, in the unit of the scores."""
    equivalent: bool
    needed: int
    """Common questions that decide, if nothing changed."""
    combined_p: float | None = None
    """p-value of `difference`. `None` unless it has two estimates."""


class RefreshDecision(Row):
    """Decision of a refresh: do nothing, publish, or propose for review."""

    verdict: Verdict
    reasons: tuple[str, ...]
    review: tuple[ReviewItem, ...]
    slices: tuple[ComparedSlice, ...] = ()


class StageCost(BaseModel):
    """Calls, tokens and dollars of one stage with one model. Cached answers count at list price."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    model: str
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float

    @classmethod
    def zero(cls, stage: str, model: str) -> StageCost:
        """Return the cost before the first call."""
        return cls(stage=stage, model=model, calls=0, tokens_in=0, tokens_out=0, cost_usd=0.0)

    def plus(self, calls: int, tokens_in: int, tokens_out: int, cost_usd: float) -> StageCost:
        """Return the cost after more calls. Dollars are rounded when costs are combined or reported."""
        return self.model_copy(
            update={
                "calls": self.calls + calls,
                "tokens_in": self.tokens_in + tokens_in,
                "tokens_out": self.tokens_out + tokens_out,
                "cost_usd": self.cost_usd + cost_usd,
            }
        )

    def rounded(self) -> StageCost:
        """Return the cost in whole millionths of a dollar, as tables and manifests record it."""
        return self.model_copy(update={"cost_usd": round(self.cost_usd, 6)})


class CostMeter:
    """Adds up the calls of one stage by model."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._by_model: dict[str, StageCost] = {}

    def add(self, model: str, calls: int, tokens_in: int, cost_usd: float) -> None:
        """Add calls that return no text."""
        before = self._by_model.get(model) or StageCost.zero(self._stage, model)
        self._by_model[model] = before.plus(calls, tokens_in, 0, cost_usd)

    def add_costs(self, costs: Iterable[StageCost]) -> None:
        """Add the calls that another meter counted."""
        for cost in costs:
            self.add(cost.model, cost.calls, cost.tokens_in, cost.cost_usd)

    def costs(self) -> tuple[StageCost, ...]:
        """Return the costs so far, in the order of the first calls."""
        return tuple(self._by_model.values())


def combine_costs(costs: Iterable[StageCost]) -> tuple[StageCost, ...]:
    """Sum costs by stage and model, in the order in which they first appear."""
    sums: dict[tuple[str, str], StageCost] = {}
    for cost in costs:
        key = cost.stage, cost.model
        before = sums.get(key) or StageCost.zero(*key)
        sums[key] = before.plus(cost.calls, cost.tokens_in, cost.tokens_out, cost.cost_usd)
    return tuple(total.rounded() for total in sums.values())


class ParameterChange(BaseModel):
    """A parameter of the requests to a model that its server refused, and the consequence."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    """Backend and name, without the address of the server."""
    parameter: str
    change: str
    """For example `temperature 0 requested, server default used`."""


class HoldBack(BaseModel):
    """Hold-out set of private questions.

    The hash commits to the private file. The file contains unpredictable answers, so the questions cannot be
    guessed from the hash.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    questions: int
    sha256: str
    ghosts: int | None = None
    """Questions in the file that were never asked. `None` without any."""

    @model_serializer(mode="wrap")
    def _without_ghosts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `ghosts` out if there are none."""
        values: dict[str, Any] = dump(self)
        if values.get("ghosts") is None:
            values.pop("ghosts", None)
        return values


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


class CorrectedTreatment(Row):
    """How one value is treated, by the judge, by people, and corrected: its score minus the mean of all.

    Scores are from 1 to 5. Below 0, the value is treated worse.
    """

    judge: str
    """`all` for the mean of several judges."""
    model: str
    attribute: str
    value: str
    groups: int
    """Groups that the judge scored."""
    labels: int
    """Groups that people scored."""
    judge_only: float | None
    judge_low: float | None
    judge_high: float | None
    people_only: float | None
    people_low: float | None
    people_high: float | None
    corrected: float | None
    corrected_low: float | None
    corrected_high: float | None
    weight: float | None
    """λ of the correction: 0 if the judge adds nothing."""
    labels_to_halve: int | None
    """Labels that halve the corrected interval. `None` if no number does."""
    corrected_p: float | None = None
    """Two-sided p of a corrected mean of 0."""
    families: int = 0
    """Twin families of the groups that people scored."""
    status: Literal["measured", "not_measured"] = "measured"
    reason: str | None = None


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
    answers: int = 0
    """Groups of answers with treatment scores of at least one reviewer."""
    treatment: tuple[CorrectedTreatment, ...] = ()
    """How values are treated: by the judges, by these reviewers, and corrected."""


RECIPE_SECTIONS = (
    "models",
    "families",
    "evolve",
    "judging",
    "controls",
    "holdout",
    "relabel",
    "deduplicate",
    "review",
    "validate",
    "limits",
    "model_limits",
    "api_keys",
    "budget",
    "release",
    "refresh",
)
"""Sections of a recipe that are mappings. A manifest in which one is not a mapping cannot be read."""
MAX_PATH = 512
"""Longest path of a file in a release, in characters."""


def is_safe_path(name: str) -> bool:
    """Return whether a path is relative, in its shortest form, and cannot leave its folder."""
    path = PurePosixPath(name)
    return (
        0 < len(name) <= MAX_PATH
        and name.isprintable()
        and "\\" not in name
        and not path.is_absolute()
        and ".." not in path.parts
        and path.as_posix() == name
        and all(len(part.encode()) <= 255 for part in path.parts)
        and name != "."
    )


class Manifest(BaseModel):
    """Inputs, costs and file hashes of a release.

    It is written last, so a directory without it is not a release. It contains no clock time and no path, so
    equal inputs give equal bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int = 1
    name: Slug
    version: Version
    counterfoil_version: str
    recipe: dict[str, Any]
    recipe_hash: str
    seed: int
    models: dict[str, str | None]
    """Revision reported by the server, by model name."""
    parameter_changes: tuple[ParameterChange, ...] = ()
    """Parameters that a server refused, so that its answers were given without them."""
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
    history: tuple[Version, ...] = ()
    """Versions up to this one that added, retired or measured questions, oldest first."""
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

    @field_validator("files")
    @classmethod
    def _files_are_inside(cls, files: dict[str, str]) -> dict[str, str]:
        unsafe = [name for name in files if not is_safe_path(name)]
        if unsafe:
            raise ValueError(f"{unsafe[0][:80]!r} is not the path of a file inside the release")
        wrong = [name for name, sha256 in files.items() if not re.fullmatch(r"[0-9a-f]{64}", sha256)]
        if wrong:
            raise ValueError(f"the value of {wrong[0][:80]!r} is not a sha256")
        return files

    @field_validator("rows")
    @classmethod
    def _rows_are_counts(cls, rows: dict[str, int]) -> dict[str, int]:
        wrong = [c for c, n in rows.items() if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", c) or n < 0]
        if wrong or any(n > MAX_COUNT for n in rows.values()):
            raise ValueError("it must hold names of tables and their numbers of rows")
        return rows

    @field_validator("recipe")
    @classmethod
    def _recipe_has_the_shape_of_one(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        """Check the types that readers rely on. The recipe may be of another version of the program."""
        wrong = [key for key in RECIPE_SECTIONS if not isinstance(recipe.get(key, {}), dict)]
        wrong += [key for key in ("name", "title", "description") if not isinstance(recipe.get(key, ""), str)]
        families = recipe.get("families", {})
        if isinstance(families, dict) and any(not isinstance(family, dict) for family in families.values()):
            wrong.append("families")
        if wrong:
            raise ValueError(f"the section {wrong[0]!r} has the wrong type")
        return recipe
