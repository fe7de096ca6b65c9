"""What varies (an attribute) and the values it takes, each with its surface forms."""

from __future__ import annotations

from pydantic import Field, model_validator

from schemas.tables import Row


class Value(Row):
    """One value of an attribute, e.g. `woman` of `gender`."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    valence: int | None = Field(default=None, ge=-1, le=1)
    """+1 or -1 where the attribute has a socially favoured side (beauty, …); `None` where it has none."""
    forms: dict[str, tuple[str, ...]]
    """Surface forms by name: `noun` ("a woman"), `adjective`, `subject`, `object`, `possessive`,
    `reflexive`, `be`, `have`, `s` (verb ending), `name` (several), …; the first one is the default."""
    factors: dict[str, str] = Field(default={})
    """What a value of a product is made of, by factor: `{age: age_60, race: white, gender: man}`."""


class Part(Row):
    """One factor of a product: an attribute, or some of its values."""

    attribute: str
    values: tuple[str, ...] = ()
    """Empty: all of them."""


class Attribute(Row):
    """What varies between the variants of a question, with the source of its word list."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    description: str
    language: str = "en"
    source: str
    licence: str
    baseline: str | None = None
    """The value others are compared with, where a metric needs one."""
    product: dict[str, Part] = Field(default={})
    """Factors by name, the first varying slowest: the values are their combinations, `white_woman`."""
    forms: dict[str, str] = Field(default={})
    """How a product words its forms: `noun: "{race.described} {gender.bare}"`. Pronouns
    are those of the factor that has any."""
    values: tuple[Value, ...] = ()
    """In the file of a product: what single combinations have of their own, such as names."""

    @model_validator(mode="after")
    def _varies(self) -> Attribute:
        if not self.product and (len(self.values) < 2 or self.forms):
            raise ValueError("an attribute has two or more `values`, or a `product` with its `forms`")
        return self

    @property
    def factors(self) -> tuple[str, ...]:
        """What varies independently in a product, as its values name it; empty where it is none."""
        return tuple(self.values[0].factors)

    def value(self, value_id: str) -> Value:
        """The value of that id; `KeyError` where there is none."""
        for value in self.values:
            if value.id == value_id:
                return value
        raise KeyError(value_id)
