"""Settings of a run that models need: directories, budget, limits, and the names of API key variables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.recipe import Limits, ModelOptions, Validate
from tasks.models.names import OPENAI_ENDPOINT, ModelName, is_loopback, origin, parse_model_name
from tasks.models.prices import TokenPrice, price_of
from tasks.models.protocol import Request
from tasks.run.store import RunContext


@dataclass(frozen=True)
class ModelSettings:
    """Settings that models of one run share. Contains names of environment variables, never keys."""

    data_dir: Path
    """The vocabulary folder with `prices.yaml` and `prompts/`."""
    run_dir: Path
    """Folder of the run, with the learnt capabilities."""
    cache_path: Path
    budget_usd: float = 0.0
    free: frozenset[str] = frozenset()
    api_keys: Mapping[str, str] = field(default_factory=dict)
    """Environment variable by endpoint (`http://host:port`)."""
    limits: Callable[[str], Limits] = lambda name: Limits()
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Engine arguments of vLLM, for models of the backend `vllm`."""
    options: Mapping[str, ModelOptions] = field(default_factory=dict)
    """Temperature, length and further fields for single models."""
    batch: frozenset[str] = frozenset()
    """Models that are asked through the Batch API."""
    max_failure_rate: float = Validate().max_failure_rate
    """Largest tolerated share of failed calls for structured answers."""
    tolerates_abstentions: bool = False
    """Whether a stage goes on if none of its first structured answers can be read."""
    prices_path: Path | None = None
    """`None`: `prices.yaml` in `data_dir`."""
    spending_dir: Path | None = None
    """Folder of the spending record and the open batches. `None`: `run_dir`."""

    @property
    def spending_path(self) -> Path:
        """Folder of the spending record and the open batches."""
        return self.spending_dir or self.run_dir

    @classmethod
    def of(cls, context: RunContext) -> ModelSettings:
        """Return the settings of a run."""
        recipe = context.recipe
        return cls(
            data_dir=Path(context.data_dir),
            run_dir=Path(context.run_dir),
            cache_path=Path(context.cache_path),
            budget_usd=context.budget_usd,
            free=frozenset(recipe.budget.free),
            api_keys=recipe.api_keys,
            limits=recipe.limits_of,
            engine=recipe.models.engine,
            options=recipe.models.options,
            batch=frozenset(recipe.models.batch),
            max_failure_rate=recipe.validation.max_failure_rate,
            tolerates_abstentions=recipe.validation.min_judged == 0,
            spending_dir=context.spending_path,
        )

    def price(self, name: str) -> TokenPrice:
        """Return the price of a model.

        Raises:
            BudgetError: If it is unknown.
        """
        prices = self.prices_path or self.data_dir / "prices.yaml"
        return price_of(
            parse_model_name(name), configured=name, free=self.free, prices_path=prices, batch=self.batch
        )


def keys_by_server(models: Iterable[str], variable: str | None) -> dict[str, str]:
    """Return the environment variable with the API key for the server of each model.

    Args:
        models: Models as a recipe names them.
        variable: Name of the variable. `None`: the usual ones.
    """
    if variable is None:
        return {}
    endpoints = [endpoint for name in models for endpoint in parse_model_name(name).resolved().endpoints]
    return {origin(endpoint): variable for endpoint in endpoints if endpoint is not None}


def options_by_model(
    models: Iterable[str], extra_body: str | None, max_tokens: int | None
) -> dict[str, ModelOptions]:
    """Return the same options for every model of a command.

    Args:
        models: Models as a recipe names them.
        extra_body: More fields of the request, a JSON object.
        max_tokens: Length limit of the visible answer.
    """
    if extra_body is None and max_tokens is None:
        return {}
    chosen = ModelOptions(extra_body=json.loads(extra_body or "{}"), max_tokens=max_tokens)
    return dict.fromkeys(models, chosen)


def with_options(request: Request, options: ModelOptions | None) -> Request:
    """Return the request as it is sent to a model with options of its own.

    The length limit that is sent is the limit of the visible answer plus the tokens for thinking, because
    servers count both.
    """
    if options is None:
        return request
    decoding, reasoning = request.decoding, options.reasoning
    extra = dict(options.extra_body)
    if reasoning.effort is not None:
        extra["reasoning_effort"] = reasoning.effort
    changed = replace(
        decoding,
        max_tokens=(options.max_tokens or decoding.max_tokens) + reasoning.max_tokens,
        temperature=decoding.temperature if options.temperature is None else options.temperature,
        extra=json.dumps(extra, sort_keys=True) if extra else "",
    )
    return replace(request, decoding=changed)


def api_key_variable(model: ModelName, settings: ModelSettings) -> str | None:
    """Return the environment variable with the key of a resolved model, or `None` if none is configured."""
    if model.endpoint is None:
        return None
    place = origin(model.endpoint)
    named = {origin(endpoint): variable for endpoint, variable in settings.api_keys.items()}
    if place in named:
        return named[place]
    own = {origin(OPENAI_ENDPOINT), origin(os.environ.get("OPENAI_BASE_URL", "") or OPENAI_ENDPOINT)}
    return "OPENAI_API_KEY" if place in own or is_loopback(model.endpoint) else None


def api_key(model: ModelName, settings: ModelSettings) -> str | None:
    """Return the API key of a resolved model, or `None` if it needs none.

    Raises:
        InputError: If a key is required and its variable is not set.
    """
    variable = api_key_variable(model, settings)
    value = os.environ.get(variable, "").strip() if variable else ""
    assert model.endpoint is not None
    place = origin(model.endpoint)
    needed = place == origin(OPENAI_ENDPOINT) or place in map(origin, settings.api_keys)
    if needed and not value:
        raise InputError(
            f"the environment variable {variable} is not set",
            place=str(model),
            hint=f"set it to the API key for {place}: `export {variable}=…`",
        )
    return value or None
