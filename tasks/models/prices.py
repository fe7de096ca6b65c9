"""Prices of models, in USD per million tokens.

The prices of the package `genai-prices` are the base. Its data are part of the package, so nothing is
fetched. `data/prices.yaml` overrides them and adds models that the package lacks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import BudgetError
from tasks.files.yaml import read_yaml
from tasks.models.names import OPENAI_ENDPOINT, ModelName

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Tier, TieredPrices

LIBRARY = "genai-prices"
BATCH = {"processing": "batch"}
"""The request context that the library uses for prices of the Batch API."""


class Tariff(BaseModel):
    """Prices in USD per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    """Prompt tokens that the provider reads from its own prompt cache. `None`: the same as `input`."""

    def scaled(self, factor: float) -> dict[str, float | None]:
        """Return the prices multiplied by a factor."""
        cached = None if self.cached is None else self.cached * factor
        return {"input": self.input * factor, "output": self.output * factor, "cached": cached}


class LongPromptTariff(Tariff):
    """Prices of a call with a prompt longer than `above` tokens. They apply to all of its tokens."""

    above: int


class TokenPrice(Tariff):
    """Price of one model with its source."""

    source: str
    as_of: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    """Date from which the price is valid. `None` if the library gives none: its version dates the price."""
    long_prompts: tuple[LongPromptTariff, ...] = ()
    """In ascending order of `above`."""

    def times(self, factor: float) -> TokenPrice:
        """Return a share of the price."""
        tiers = tuple(tier.model_copy(update=tier.scaled(factor)) for tier in self.long_prompts)
        return self.model_copy(update={**self.scaled(factor), "long_prompts": tiers})

    def cost_usd(
        self, tokens_in: int, tokens_out: int, tokens_in_cached: int = 0, *, calls: int = 1
    ) -> float:
        """Return the cost of one call, or of several calls of about the same length.

        Args:
            tokens_in: Prompt tokens of all calls, cached ones included.
            tokens_out: Generated tokens of all calls.
            tokens_in_cached: Prompt tokens that the provider read from its prompt cache.
            calls: Number of calls.
        """
        prompt = tokens_in / max(1, calls)
        tariff: Tariff = next((tier for tier in reversed(self.long_prompts) if prompt > tier.above), self)
        cached = min(tokens_in_cached, tokens_in)
        cached_price = tariff.input if tariff.cached is None else tariff.cached
        usd = (tokens_in - cached) * tariff.input + cached * cached_price + tokens_out * tariff.output
        return usd / 1_000_000


FREE = TokenPrice(input=0, output=0, source="free", as_of="1970-01-01")


class ListedPrice(TokenPrice):
    """An entry of `data/prices.yaml`. The date is required."""

    as_of: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")


class PriceList(BaseModel):
    """Content of `data/prices.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch: float = Field(default=1.0, ge=0, le=1)
    """Price of a call through the Batch API as a share of the prices in this file."""
    models: dict[str, ListedPrice] = {}


def price_of(
    name: ModelName, *, configured: str, free: Collection[str], prices_path: Path, batch: Collection[str] = ()
) -> TokenPrice:
    """Return the price of a model.

    Models in this process and replayed models are free. A dated snapshot without a price of its own
    (`gpt-5-mini-2025-08-07`) costs as much as its undated name.

    Args:
        name: The parsed name.
        configured: The name as written in the recipe.
        free: Configured names that cost nothing.
        prices_path: The price list that overrides the library.
        batch: Configured names of models that are asked through the Batch API.

    Raises:
        BudgetError: If the price is unknown.
    """
    if name.backend in ("embedded", "replay", "vllm") or configured in free:
        return FREE
    batched = configured in batch
    price = _listed_price(name.name, read_yaml(prices_path, PriceList), batched) or max(
        filter(None, (_library_price(name.name, url, batched, date.today()) for url in _addresses(name))),
        key=lambda price: (price.output, price.input),
        default=None,
    )
    if price is None:
        raise BudgetError(
            f"the price of {configured} is unknown, so its cost cannot be kept within the budget",
            place=prices_path.name,
            hint=f"add `{name.name}` to {prices_path.name}; or, if it costs nothing, list {configured!r} "
            "under `budget.free` in the recipe or name it with --free; or choose another model",
        )
    return price


def _listed_price(model: str, listed: PriceList, batched: bool) -> TokenPrice | None:
    price = listed.models.get(model) or listed.models.get(_undated(model))
    return price.times(listed.batch) if price and batched else price


def _undated(model: str) -> str:
    return re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model)


def _addresses(name: ModelName) -> Sequence[str]:
    return name.resolved().endpoints or (OPENAI_ENDPOINT,)


@lru_cache(maxsize=256)
def _library_price(model: str, endpoint: str, batched: bool, day: date) -> TokenPrice | None:
    """Return the library's price of a model at an endpoint, or `None` if it has none.

    A server that the library does not know may be a gateway: a model name of OpenAI has OpenAI's price there.
    """
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    try:
        provider = snapshot.find_provider(None, None, endpoint)
    except LookupError:
        provider = snapshot.find_provider(None, "openai", None)
    info = provider.find_model(model, all_providers=snapshot.providers)
    info = info or provider.find_model(_undated(model), all_providers=snapshot.providers)
    return _token_price(info, batched, day) if info else None


def _token_price(info: ModelInfo, batched: bool, day: date) -> TokenPrice | None:
    from importlib.metadata import version

    # Some prices depend on the time of day. Noon makes the price of a day unique.
    noon = datetime.combine(day, time(12), UTC)
    price = info.get_prices(noon, BATCH if batched else None)
    if price.input_mtok is None or price.requests_kcount is not None:
        return None  # tokens alone do not determine the cost
    starts = {
        t.start for p in (price.input_mtok, price.output_mtok, price.cache_read_mtok) for t in _tiers(p)
    }
    return TokenPrice(
        **_tariff(price, 0),
        source=f"{LIBRARY} {version(LIBRARY)}",
        as_of=_valid_from(info, batched, noon),
        long_prompts=tuple(
            LongPromptTariff(**_tariff(price, start), above=start) for start in sorted(starts)
        ),
    )


def _tariff(price: ModelPrice, start: int) -> dict[str, float]:
    """Return the prices of a call with a prompt longer than `start` tokens."""
    values = {"input": price.input_mtok, "output": price.output_mtok, "cached": price.cache_read_mtok}
    return {name: _at(value, start) for name, value in values.items() if value is not None} | (
        {} if price.output_mtok is not None else {"output": 0.0}  # an embedding model generates nothing
    )


def _tiers(value: Decimal | TieredPrices | None) -> list[Tier]:
    return [] if value is None or isinstance(value, Decimal) else value.tiers


def _at(value: Decimal | TieredPrices, start: int) -> float:
    tiers = [tier.price for tier in _tiers(value) if tier.start <= start]
    base = value if isinstance(value, Decimal) else value.base
    return float(tiers[-1] if tiers else base)


def _valid_from(info: ModelInfo, batched: bool, noon: datetime) -> str | None:
    """Return the latest start date among the prices that are valid now."""
    from genai_prices.types import StartDateConstraint

    constraints = [entry.constraint for entry in info.prices] if isinstance(info.prices, list) else []
    if batched:
        constraints += [variant.constraint for variant in info.price_variants or () if variant.when == BATCH]
    starts = [c.start_date for c in constraints if isinstance(c, StartDateConstraint) and c.active(noon)]
    return max(starts).isoformat() if starts else None
