"""Prices of models, in USD per million tokens."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import BudgetError
from tasks.files.yaml import read_yaml
from tasks.models.names import ModelName


class TokenPrice(BaseModel):
    """USD per million tokens of one model, where that is said, and when it was read there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    """Prompt tokens read from the provider's own cache; default: as `input`."""
    source: str
    as_of: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")

    def times(self, factor: float) -> TokenPrice:
        """The same at a share of the price."""
        cached = None if self.cached is None else self.cached * factor
        changes = {"input": self.input * factor, "output": self.output * factor, "cached": cached}
        return self.model_copy(update=changes)

    def cost_usd(self, tokens_in: int, tokens_out: int, tokens_in_cached: int = 0) -> float:
        cached = min(tokens_in_cached, tokens_in)
        cached_price = self.input if self.cached is None else self.cached
        usd = (tokens_in - cached) * self.input + cached * cached_price + tokens_out * self.output
        return usd / 1_000_000


class PriceList(BaseModel):
    """data/prices.yaml"""

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch: float = Field(default=1.0, ge=0, le=1)
    """What a call costs through the Batch API, as a share of its price."""
    models: dict[str, TokenPrice]


FREE = TokenPrice(input=0, output=0, source="free", as_of="1970-01-01")


def price_of(
    name: ModelName, *, configured: str, free: Collection[str], prices_path: Path, batch: Collection[str] = ()
) -> TokenPrice:
    """The price of a model. `configured` is its name as the recipe has it, which `free` may list, and
    `batch` where it is asked through the Batch API.

    Models in this process and replayed ones are free. A dated snapshot (`gpt-5-mini-2025-08-07`) costs
    what its undated name does. Raises `BudgetError` where there is no price.
    """
    if name.backend in ("embedded", "replay", "vllm") or configured in free:
        return FREE
    listed = read_yaml(prices_path, PriceList)
    models = listed.models
    undated = re.sub(r"-\d{4}-\d{2}-\d{2}$", "", name.name)
    price = models.get(name.name) or models.get(undated)
    if price is None:
        raise BudgetError(
            f"the price of {configured} is not known, so its cost cannot be kept within the budget",
            place=prices_path.name,
            hint=f"add `{name.name}` to {prices_path.name}; or list {configured!r} under `budget.free` in "
            "the recipe if it costs nothing; or choose another model",
        )
    return price.times(listed.batch) if configured in batch else price
