"""The manifest: what a release was made from, by what, and the hash of every file in it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.comparison import Comparison
from schemas.decision import StageCounts
from schemas.passport import Passport


class StageCost(BaseModel):
    """Calls, tokens and dollars of one stage with one model. Cached answers count at their price."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    model: str
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


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
    comparison: Comparison
    validation: dict[str, int]
    """`passed`, `warnings`, `errors`."""
    files: dict[str, str]
    """Path inside the release to sha256, for every file but this one."""
