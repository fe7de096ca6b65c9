"""What varies (an attribute) and the values it takes, each with its surface forms."""

from __future__ import annotations

from pydantic import Field

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
    values: tuple[Value, ...] = Field(min_length=2)

    def value(self, value_id: str) -> Value:
        """The value of that id; `KeyError` where there is none."""
        for value in self.values:
            if value.id == value_id:
                return value
        raise KeyError(value_id)
