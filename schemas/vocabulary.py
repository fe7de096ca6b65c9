"""The files under data/ from which questions are made: templates, taxonomy, frames."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.question import Framing, Option
from schemas.tables import Row

FileId = str


class TemplateItem(Row):
    """One template. `{noun}`, `{name}`, `{possessive}`, … name a form of the attribute; binding turns each
    into a slot `{{a man/a woman}}`. Slots may also be written out where a template is made for one
    attribute."""

    id: str
    text: str
    superdomain: str
    domain: str
    topic: str
    options: tuple[Option, ...] = ()
    attributes: tuple[str, ...] = ()
    """Attributes it fits; empty: any."""
    framing: Framing = "explicit"
    neutral_for: tuple[str, ...] = ()
    """Attributes for which a different answer is legitimate (a `neutral` control)."""


class TemplateFile(Row):
    """data/templates/<family>/<name>.yaml"""

    family: str
    title: str
    source: str
    licence: str
    language: str = "en"
    items: tuple[TemplateItem, ...] = Field(min_length=1)


class Topic(Row):
    """What happens. `situation` continues "…, my neighbour, a woman," in the past tense, third person
    singular, without naming any attribute: "asked to lead the seed swap"."""

    id: str
    title: str
    situation: str
    neutral_for: tuple[str, ...] = ()


class Domain(Row):
    id: str
    title: str
    topics: tuple[Topic, ...] = Field(min_length=1)


class Superdomain(Row):
    """data/taxonomy/<id>.yaml"""

    id: str
    title: str
    language: str = "en"
    relations: tuple[str, ...] = Field(min_length=1)
    """Who the person is to the speaker: "my neighbour", "a colleague"."""
    places: tuple[str, ...] = Field(min_length=1)
    """Where: "at the community garden"."""
    domains: tuple[Domain, ...] = Field(min_length=1)


class Frames(Row):
    """data/frames/<language>.yaml: how the parts make a question. Every list is drawn from by seed."""

    language: str
    source: str
    licence: str
    patterns: tuple[str, ...] = Field(min_length=1)
    """With `<when>`, `<place>`, `<person>`, `<situation>`, `<stake>`, `<ask>`."""
    explicit_person: str
    """With `<relation>` and a form: "<relation>, {noun},"."""
    implicit_person: str
    """"<relation> {name}"."""
    when: tuple[str, ...] = Field(min_length=1)
    stakes: tuple[str, ...] = Field(min_length=1)
    asks: dict[Literal["plain", "casual", "formal"], tuple[str, ...]]
    """Speech acts that ask for advice, by register; each ends in a question mark."""


class Criterion(Row):
    """One thing a judge scores. A yes/no check has `low` 0 and `high` 1."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    question: str
    """What the judge is asked."""
    low: int
    high: int
    anchors: dict[int, str]
    """What single points of the scale mean; both ends at least."""
    bad: Literal["low", "high"] | None = None
    """Which end speaks for bias; `None`: neither by itself."""


class Rubric(Row):
    """data/rubrics/<id>.yaml"""

    id: str
    title: str
    kind: Literal["scale", "boolean"]
    source: str
    licence: str
    criteria: tuple[Criterion, ...] = Field(min_length=1)


class WordList(Row):
    """Words (or phrases) of one kind, such as `warmth_high`, lower case."""

    id: str
    words: tuple[str, ...] = Field(min_length=1)


class Lexicon(Row):
    """data/lexicons/<id>.yaml"""

    id: str
    title: str
    language: str = "en"
    source: str
    licence: str
    lists: tuple[WordList, ...] = Field(min_length=1)

    def words(self, list_id: str) -> tuple[str, ...]:
        """The words of one list; `KeyError` where there is none."""
        for words in self.lists:
            if words.id == list_id:
                return words.words
        raise KeyError(list_id)


class AssociationTest(Row):
    """One word-assignment test: two sets of terms, and the words that a stereotype gives to either."""

    id: str
    default: tuple[str, ...] = Field(min_length=1)
    """Terms of the side that is taken as the norm."""
    stigma: tuple[str, ...] = Field(min_length=1)
    default_words: tuple[str, ...] = Field(min_length=1)
    stigma_words: tuple[str, ...] = Field(min_length=1)


class AssociationTests(Row):
    """data/association/<id>.yaml"""

    id: str
    title: str
    source: str
    licence: str
    tests: tuple[AssociationTest, ...] = Field(min_length=1)
