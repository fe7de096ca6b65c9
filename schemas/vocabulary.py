"""What varies (an attribute) and the values it takes, each with its surface forms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.question import Framing, Option
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


# The files under data/gold/ that judges are audited with: texts whose truth is known by construction.


PlantKind = Literal["refusal", "length", "tone", "content", "recommendation"]


class Plant(Row):
    """A worse answer: the first `keep` sentences of the fair one, then what is planted."""

    size: int = Field(ge=1, le=3)
    """How much worse: 1 slight, 2 noticeable, 3 strong."""
    keep: int = Field(ge=0)
    say: str = Field(min_length=1)


class Scene(Row):
    """A question, a fair answer to it, and what can be planted."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    attribute: str
    values: tuple[str, str]
    kind: PlantKind
    question: str
    """With `{noun}`, as templates have it."""
    fair: tuple[tuple[str, str], ...] = Field(min_length=2)
    """Its sentences, each in two wordings that can be exchanged one by one."""
    plants: tuple[Plant, Plant, Plant]
    """One a size, in order."""


class BiasPairs(Row):
    """data/gold/bias_pairs.yaml"""

    id: str
    title: str
    language: str
    source: str
    """Who labelled, and how."""
    licence: str
    sizes: dict[int, str]
    items: tuple[Scene, ...] = Field(min_length=2)


class Cue(Row):
    """Sentences that say nothing about how good an answer is, but may sway a judge."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source: str
    place: Literal["start", "end"]
    sentences: tuple[str, ...] = Field(min_length=1)


class Cues(Row):
    """data/gold/cues.yaml"""

    id: str
    title: str
    source: str
    licence: str
    cues: tuple[Cue, ...] = Field(min_length=1)


# The files under data/ from which questions are made: templates, taxonomy, frames.


FileId = str
PART_ID = r"^[a-z0-9_]+$"
"""Ids that a template's id is put together from, with points between."""


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
    values: tuple[str, ...] = ()
    """Values that it compares, in this order; empty: all of its attribute. Needs exactly one attribute."""
    framing: Framing = "explicit"
    neutral_for: tuple[str, ...] = ()
    """Attributes for which a different answer is legitimate (a `neutral` control)."""
    by_name: bool = False
    """Asked a second time with `{name}` for `{noun}`, as the implicit twin `<id>.implicit`."""
    given_from: tuple[str, ...] = ()
    """Lists in data/triples whose two sides stand for `{given}`: one question for every triple."""
    options_from: tuple[str, ...] = ()
    """Lists in data/triples of which every such question is given one triple as its options, in turn."""


class TemplateFile(Row):
    """data/templates/<family>/<name>.yaml"""

    family: str
    title: str
    source: str
    licence: str
    language: str = "en"
    options: tuple[Option, ...] = ()
    """Of the items that have none of their own."""
    items: tuple[TemplateItem, ...] = Field(min_length=1)


class Triples(Row):
    """data/triples/<id>.yaml: opposed words, the socially favoured one first, and a third that has nothing to
    do with them."""

    id: str
    title: str
    language: str = "en"
    source: str
    licence: str
    triples: tuple[tuple[str, str, str], ...] = Field(min_length=2)


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
    """A scale is turned into fitness by the published forms, yes/no checks into their satisfied share."""
    source: str
    licence: str
    not_applicable: str | None = None
    """What a score of null means; without it every criterion has to be scored."""
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


class Stimuli(Row):
    """What a word-assignment test shows: terms of two sides, and words that a stereotype gives to either."""

    default: tuple[str, ...] = Field(min_length=1)
    """Terms of the side that is taken as the norm. The i-th of either side are asked about together."""
    stigma: tuple[str, ...] = Field(min_length=1)
    default_words: tuple[str, ...] = Field(min_length=1)
    stigma_words: tuple[str, ...] = Field(min_length=1)


class AssociationTest(Stimuli):
    """A word-assignment test and whom it is about."""

    id: str
    superdomain: str
    attribute: str
    values: tuple[str, str]
    """The values of the attribute that the two sets of terms stand for."""


class AssociationTests(Row):
    """data/association/<id>.yaml"""

    id: str
    title: str
    source: str
    licence: str
    tests: tuple[AssociationTest, ...] = Field(min_length=1)


class RolePair(Row):
    """Two tasks of which the stereotype gives either to one side."""

    id: str
    setting: str
    """What two people do together, continuing "A and B …": "run a small bakery together"."""
    default: str
    """The task that the stereotype gives to the side taken as the norm, as a bare verb phrase."""
    stigma: str


class Contrast(Row):
    """Two values and what a stereotype takes them to be fit for."""

    id: str
    superdomain: str
    attribute: str
    values: tuple[str, str]
    """The side that is taken as the norm, and the other."""
    roles: tuple[RolePair, ...] = Field(min_length=1)


class Contrasts(Row):
    """data/relative_decision/<id>.yaml"""

    id: str
    title: str
    language: str = "en"
    source: str
    licence: str
    explicit_person: str
    """With `<name>` and `<noun>`: "<name>, <noun>,"."""
    sentence: str
    """With `<first>`, `<second>` and `<setting>`."""
    names: tuple[tuple[str, str], ...] = Field(min_length=1)
    """Given names that tell neither side, two and two."""
    contrasts: tuple[Contrast, ...] = Field(min_length=1)


class Premise(Row):
    """A fact or scene that mentions the groups and decides nothing about them."""

    id: str = Field(pattern=PART_ID)
    wordings: tuple[str, ...] = Field(min_length=1)
    """The original first; the others say the same in other words."""


class Hypothesis(Row):
    """What a stereotype would conclude, told of either group: `{Noun_plural} have steadier hands.`"""

    id: str = Field(pattern=PART_ID)
    wordings: tuple[str, ...] = Field(min_length=1)
    """The original first; the others say the same in other words."""


class Theme(Row):
    """One stereotype: premises that leave it open, hypotheses that follow from it alone."""

    id: str = Field(pattern=PART_ID)
    attribute: str
    values: tuple[str, str]
    """The group of which the stereotype says it, and one of which it does not."""
    premises: tuple[Premise, ...] = Field(min_length=1)
    hypotheses: tuple[Hypothesis, ...] = Field(min_length=1)


class Themes(Row):
    """data/templates/entailment/<name>.yaml"""

    title: str
    language: str = "en"
    source: str
    licence: str
    frame: str
    """With `<premise>` and `<hypothesis>`."""
    options: tuple[Option, ...]
    """In the roles entailment, contradiction and neutral."""
    themes: tuple[Theme, ...] = Field(min_length=1)


class DialectText(Row):
    """One text in a variety and, sentence for sentence, in the standard language."""

    id: str
    value: str
    """The variety: a value of the file's attribute."""
    standard: str
    dialect: str


class DialectTexts(Row):
    """data/dialects/<id>.yaml"""

    id: str
    title: str
    language: str
    source: str
    licence: str
    attribute: str
    standard: str
    """The value of the attribute that is the standard language."""
    texts: tuple[DialectText, ...] = Field(min_length=1)


class Traits(Row):
    """Words or tasks of which a stereotype gives either to some speakers; none holds a comma or a dash."""

    id: str
    default_words: tuple[str, ...] = Field(min_length=1)
    """Those that it gives to speakers of the standard."""
    stigma_words: tuple[str, ...] = Field(min_length=1)


class TraitLists(Row):
    """data/templates/dialect/<name>.yaml"""

    title: str
    language: str
    source: str
    licence: str
    lists: tuple[Traits, ...] = Field(min_length=1)
