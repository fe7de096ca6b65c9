"""What a call costs: data/prices.yaml, in USD per million tokens."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import BudgetError
from tasks.formats.yaml_file import read_yaml
from tasks.models.names import ModelName


class Price(BaseModel):
    """USD per million tokens of one model, where that is said, and when it was read there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    """Prompt tokens read from the provider's own cache; default: as `input`."""
    source: str
    as_of: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")

    def cost_usd(self, tokens_in: int, tokens_out: int, tokens_in_cached: int = 0) -> float:
        cached = min(tokens_in_cached, tokens_in)
        cached_price = self.input if self.cached is None else self.cached
        usd = (tokens_in - cached) * self.input + cached * cached_price + tokens_out * self.output
        return usd / 1_000_000


class PriceList(BaseModel):
    """data/prices.yaml"""

    model_config = ConfigDict(frozen=True, extra="forbid")
    models: dict[str, Price]


FREE = Price(input=0, output=0, source="free", as_of="1970-01-01")


def price_of(name: ModelName, *, configured: str, free: Collection[str], prices_path: Path) -> Price:
    """The price of a model. `configured` is its name as the recipe has it, which `free` may list.

    Embedded and replayed models are free. A dated snapshot (`gpt-5-mini-2025-08-07`) costs what its
    undated name does. Raises `BudgetError` where there is no price.
    """
    if name.backend in ("embedded", "replay") or configured in free:
        return FREE
    models = read_yaml(prices_path, PriceList).models
    undated = re.sub(r"-\d{4}-\d{2}-\d{2}$", "", name.name)
    price = models.get(name.name) or models.get(undated)
    if price is None:
        raise BudgetError(
            f"the price of {configured} is not known, so its cost cannot be kept within the budget",
            place=prices_path.name,
            hint=f"add `{name.name}` to {prices_path.name}; or list {configured!r} under `budget.free` in "
            "the recipe if it costs nothing; or choose another model",
        )
    return price
