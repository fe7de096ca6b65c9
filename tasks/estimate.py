"""Estimate: rows, calls, tokens and dollars of every stage, before anything is spent.

Templated families and seeds are counted by expanding them; a round of evolution counts what it may write at
most. Tokens are estimated from the length of the texts and, for free answers, from the length limit: the
result is an upper estimate, and the budget is held against it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from schemas.manifest import StageCost

ACCEPTED_SHARE = 0.5
"""Assumed share of judged questions that are selected and answered again on hold-out; an upper guess."""
JUDGE_TOKENS_OUT = 350
GENERATOR_TOKENS = (900, 250)
EVIDENCE_TOKENS = (450, 60)
RANKING_TOKENS = (700, 80)
JUDGE_PROMPT_TOKENS = 700


class StageEstimate(BaseModel):
    """One stage of the plan."""

    model_config = ConfigDict(frozen=True)
    name: str
    rows: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


class Estimate(BaseModel):
    """The whole plan: by stage, and by stage and model."""

    model_config = ConfigDict(frozen=True)
    stages: tuple[StageEstimate, ...]
    costs: tuple[StageCost, ...]
    total_cost_usd: float
    budget_usd: float
    questions: dict[str, int]
    """Questions per family before evolution, controls included; exact."""
    smallest_detectable_effect: dict[str, float]
    """By attribute: the smallest standardised difference that the hold-out samples can show."""


@dataclass(frozen=True)
class _Load:
    """Work of one stage: rows, and calls with their tokens by model."""

    stage: str
    rows: int
    calls: tuple[StageCost, ...] = ()
