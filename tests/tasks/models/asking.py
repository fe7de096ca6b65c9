"""Helpers of the tests of this folder: settings, requests, and asking a model until the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from schemas.recipe import Limits
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.protocol import Decoding, JsonSchema, Message, Outcome, Request

DATA = Path(__file__).resolve().parents[3] / "data"


def settings_for(
    place: Path, *free: str, budget_usd: float = 0.0, limits: Limits | None = None, **more: object
) -> ModelSettings:
    """Return settings with their own run folder and cache. `free` names models without a price."""
    settings = ModelSettings(
        data_dir=DATA,
        run_dir=place / "run",
        cache_path=place / "cache.sqlite",
        free=frozenset(free),
        budget_usd=budget_usd,
        limits=lambda name: limits or Limits(max_in_flight=16, timeout_s=5),
    )
    return replace(settings, **more)  # type: ignore[arg-type]


def question(
    number: int, *, json_schema: JsonSchema | None = None, max_tokens: int = 20, top_logprobs: int = 0
) -> Request:
    decoding = Decoding(max_tokens, seed=number, top_logprobs=top_logprobs)
    message = Message("user", f"question {number}")
    return Request(f"tag {number}", (message,), decoding, json_schema=json_schema)


def questions(count: int) -> list[Request]:
    return [question(i) for i in range(count)]


def answers(name: str, settings: ModelSettings, requests: Iterable[Request]) -> dict[str, Outcome]:
    """Return every outcome by its tag. Fail if a request has two."""

    async def ask() -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        async with open_model(name, settings) as model:
            async for outcome in model.complete(requests):
                assert outcome.tag not in found
                found[outcome.tag] = outcome
        return found

    return run_async(ask())
