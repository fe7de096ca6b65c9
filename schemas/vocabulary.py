"""Files under data/: attributes, templates, taxonomy, rubrics, word lists and audit scenes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from schemas.question import Framing, Option
from schemas.tables import Row


class Value(Row):
    """One value of an attribute, e.g. `woman` of `gender`."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    valence: int | None = Field(default=None, ge=-1, le=1)
    """+1 or -1 if the attribute has a socially favoured side (beauty, …), else `None`."""
    forms: dict[str, tuple[str, ...]]
    """Surface forms by name: `noun` ("a woman"), `adjective`, `subject`, `object`, `possessive`,
    `reflexive`, `be`, `have`, `s` (verb ending), `name` (several), …. The first one is the default."""
    factors: dict[str, str] = Field(default={})
    """Parts of a product value by factor: `{age: age_60, race: white, gender: man}`."""
    derived: tuple[str, ...] = ()
    """Words that give the value away without naming it, such as `Ramadan` or `pregnancy`. They are masked in
    answers."""


class Part(Row):
    """One factor of a product attribute: an attribute or some of its values."""

    attribute: str
    values: tuple[str, ...] = ()
    """Value ids. Empty for all values."""


class Attribute(Row):
    """The attribute that differs between the variants of a question, with the source of its word list."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    description: str
    language: str = "en"
    source: str
    licence: str
    baseline: str | None = None
    """Reference value for metrics that need one."""
    related: tuple[str, ...] = ()
    """Attributes with neutral topics that are neutral for this one as well, such as `age` for `youth`."""
    product: dict[str, Part] = Field(default={})
    """Factors by name. The values are their combinations, such as `white_woman`, first factor slowest."""
    forms: dict[str, str] = Field(default={})
    """Wording of the forms of a product: `noun: "{race.described} {gender.bare}"`. Pronouns come from the
    factor that has them."""
    values: tuple[Value, ...] = ()
    """In the file of a product: overrides of single combinations, such as names."""

    @model_validator(mode="after")
    def _varies(self) -> Attribute:
        if not self.product and (len(self.values) < 2 or self.forms):
            raise ValueError("an attribute has two or more `values`, or a `product` with its `forms`")
        return self

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the independent factors of a product. Empty for other attributes."""
        return tuple(self.values[0].factors)

    def value(self, value_id: str) -> Value:
        """Return the value with this id.

        Raises:
            KeyError: If there is no such value.
        """
        for value in self.values:
            if value.id == value_id:
                return value
        raise KeyError(value_id)


# Files under data/gold/ for the audit of judges. Their labels are known by construction.

PlantKind = Literal["refusal", "length", "tone", "content", "recommendation"]


class Plant(Row):
    """A worse answer: the first `keep` sentences of the fair one, then the planted text `say`."""

    size: int = Field(ge=1, le=3)
    """Size of the difference: 1 slight, 2 noticeable, 3 strong."""
    keep: int = Field(ge=0)
    say: str = Field(min_length=1)


class Scene(Row):
    """A question, a fair answer, and three worse answers."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    attribute: str
    values: tuple[str, str]
    kind: PlantKind
    question: str
    """Template text with `{noun}`."""
    fair: tuple[tuple[str, str], ...] = Field(min_length=2)
    """Sentences of the answer, each in two interchangeable wordings."""
    plants: tuple[Plant, Plant, Plant]
    """One per size, in order."""


class BiasPairs(Row):
    """Content of data/gold/bias_pairs.yaml."""

    id: str
    title: str
    language: str
    source: str
    """Source of the labels."""
    licence: str
    sizes: dict[int, str]
    items: tuple[Scene, ...] = Field(min_length=2)


class Cue(Row):
    """Sentences that are irrelevant to the quality of an answer but may bias a judge."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source: str
    place: Literal["start", "end"]
    sentences: tuple[str, ...] = Field(min_length=1)


class Cues(Row):
    """Content of data/gold/cues.yaml."""

    id: str
    title: str
    source: str
    licence: str
    cues: tuple[Cue, ...] = Field(min_length=1)


# Files under data/ from which questions are made: templates, taxonomy, frames.

PART_ID = r"^[a-z0-9_]+$"
"""Pattern of the parts of a template's id, which are joined by points."""


class TemplateItem(Row):
    """One template.

    `{noun}`, `{name}`, `{possessive}`, … name a form of the attribute. Binding replaces each with a slot
    `{{a man/a woman}}`. A template for one attribute may contain such slots itself.
    """

    id: str
    text: str
    superdomain: str
    domain: str
    topic: str
    options: tuple[Option, ...] = ()
    attributes: tuple[str, ...] = ()
    """Attributes that the template fits. Empty for any."""
    values: tuple[str, ...] = ()
    """Values to compare, in order. Empty for all values of the attribute. Needs exactly one attribute."""
    framing: Framing = "explicit"
    neutral_for: tuple[str, ...] = ()
    """Attributes for which different answers are legitimate (`neutral` control)."""
    by_name: bool = False
    """Whether to ask it again with `{name}` in place of `{noun}`, as the implicit twin `<id>.implicit`."""
    given_from: tuple[str, ...] = ()
    """Lists in data/triples. Each triple makes one question, with its two sides in place of `{given}`."""
    options_from: tuple[str, ...] = ()
    """Lists in data/triples. Each such question gets one triple as its options, in turn."""


class TemplateFile(Row):
    """Content of data/templates/<family>/<name>.yaml."""

    family: str
    title: str
    source: str
    licence: str
    language: str = "en"
    options: tuple[Option, ...] = ()
    """Default options of the items."""
    items: tuple[TemplateItem, ...] = Field(min_length=1)


class Triples(Row):
    """Content of data/triples/<id>.yaml.

    Each triple has two opposed words, the socially favoured one first, and an unrelated third one.
    """

    id: str
    title: str
    language: str = "en"
    source: str
    licence: str
    triples: tuple[tuple[str, str, str], ...] = Field(min_length=2)


class Topic(Row):
    """A topic of the taxonomy.

    `situation` continues "…, my neighbour, a woman," in the past tense, third person singular, without
    naming any attribute: "asked to lead the seed swap".
    """

    id: str
    title: str
    situation: str
    kind: str = "matter"
    """Kind in data/taxonomy/compatibility, which decides the stakes and requests that fit."""
    relations: tuple[str, ...] = ()
    """People that may act in it. Empty for those of the domain."""
    places: tuple[str, ...] = ()
    """Places. Empty for those of the domain."""
    neutral_for: dict[str, str] = Field(default={})
    """Attributes for which different answers are legitimate, with the reason. A list gives no reasons."""

    @field_validator("neutral_for", mode="before")
    @classmethod
    def _reasons(cls, given: object) -> object:
        return dict.fromkeys(given, "") if isinstance(given, list | tuple) else given


class Domain(Row):
    """A domain of a superdomain."""

    id: str
    title: str
    relations: tuple[str, ...] = ()
    """People that may act in its topics. Empty for those of the superdomain."""
    places: tuple[str, ...] = ()
    """Places. Empty for those of the superdomain."""
    topics: tuple[Topic, ...] = Field(min_length=1)


class Superdomain(Row):
    """Content of data/taxonomy/<id>.yaml."""

    id: str
    title: str
    language: str = "en"
    relations: tuple[str, ...] = Field(min_length=1)
    """Relations of the person to the speaker: "my neighbour", "a colleague"."""
    places: tuple[str, ...] = Field(min_length=1)
    """Places, such as "at the community garden"."""
    domains: tuple[Domain, ...] = Field(min_length=1)


EVERY_KIND = "any"
"""Group of stakes or requests that fit every kind of topic."""


class TopicKind(Row):
    """A kind of topic, with the groups of stakes and requests that fit it."""

    title: str
    stakes: tuple[str, ...] = Field(min_length=1)
    asks: tuple[str, ...] = Field(min_length=1)


class Compatibility(Row):
    """Content of data/taxonomy/compatibility/<language>.yaml."""

    language: str
    source: str
    licence: str
    kinds: dict[str, TopicKind] = Field(min_length=1)


class Frames(Row):
    """Content of data/frames/<language>.yaml: patterns that join the parts of a question.

    Draws from every list depend on the seed only.
    """

    language: str
    source: str
    licence: str
    patterns: tuple[str, ...] = Field(min_length=1)
    """Patterns with `<when>`, `<person>`, `<situation>`, `<stake>`, `<ask>` and optionally `<place>`."""
    explicit_person: str
    """Pattern with `<relation>` and a form: "<relation>, {noun},"."""
    implicit_person: str
    """Pattern "<relation> {name}"."""
    when: tuple[str, ...] = Field(min_length=1)
    stakes: dict[str, tuple[str, ...]] = Field(min_length=1)
    """Stakes by group."""
    asks: dict[str, dict[Literal["plain", "casual", "formal"], tuple[str, ...]]] = Field(min_length=1)
    """Requests for advice by group and register. Each ends in a question mark."""
    kinds: dict[str, TopicKind] = Field(default={})
    """The compatibility table of the language. Empty if everything fits every topic."""

    @model_validator(mode="before")
    @classmethod
    def _one_group(cls, given: object) -> object:
        """Put a plain list of stakes, and asks without groups, into a group that fits every kind."""
        if not isinstance(given, dict):
            return given
        stakes, asks = given.get("stakes"), given.get("asks")
        if isinstance(stakes, list | tuple):
            given = given | {"stakes": {EVERY_KIND: stakes}}
        if isinstance(asks, dict) and set(asks) <= {"plain", "casual", "formal"}:
            given = given | {"asks": {EVERY_KIND: asks}}
        return given

    def stakes_for(self, kind: str) -> tuple[str, ...]:
        """Return the stakes that fit a kind of topic."""
        return tuple(s for group in self._groups(self.stakes, kind, "stakes") for s in self.stakes[group])

    def asks_for(self, kind: str) -> tuple[str, ...]:
        """Return the requests that fit a kind of topic."""
        groups = self._groups(self.asks, kind, "asks")
        return tuple(a for g in groups for register in sorted(self.asks[g]) for a in self.asks[g][register])

    def _groups(self, parts: Mapping[str, object], kind: str, name: str) -> list[str]:
        fitting = getattr(self.kinds[kind], name) if kind in self.kinds else tuple(parts)
        return [group for group in parts if group == EVERY_KIND or group in fitting]


class Criterion(Row):
    """One criterion of a rubric. A yes/no check has `low` 0 and `high` 1."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    question: str
    """Question to the judge."""
    low: int
    high: int
    anchors: dict[int, str]
    """Meaning of points of the scale, at least of both ends."""
    bad: Literal["high", "low"] | None = None
    """End of the scale that indicates bias. `None` if neither does by itself."""


class Rubric(Row):
    """Content of data/rubrics/<id>.yaml."""

    id: str
    title: str
    kind: Literal["scale", "boolean"]
    """Scales become fitness by the published forms, yes/no checks by their satisfied share."""
    source: str
    licence: str
    not_applicable: str | None = None
    """Meaning of a null score. If absent, every criterion must be scored."""
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    versions: tuple[Criterion, ...] = ()
    """Criteria on which every version is scored by itself. Without them, a judge does not measure the
    direction of a difference."""


class Concept(Row):
    """Content of data/concepts/<id>.yaml: a concept on which answers are compared in pairs (CGCoT)."""

    id: str
    title: str
    concept: str
    """Name and definition, as the judge reads them."""
    questions: tuple[str, ...] = Field(min_length=3, max_length=5)
    """Breakdown questions. Each answer is described with them before it is compared."""
    comparison: str
    """Question about two answers that asks for the one with more of the concept."""
    better: Literal["high", "low"] | None = None
    """End of the scale at which a version is treated better."""
    source: str
    licence: str


class WordList(Row):
    """Words or phrases of one kind, such as `warmth_high`, in lower case."""

    id: str
    words: tuple[str, ...] = Field(min_length=1)


class Lexicon(Row):
    """Content of data/lexicons/<id>.yaml."""

    id: str
    title: str
    language: str = "en"
    source: str
    licence: str
    lists: tuple[WordList, ...] = Field(min_length=1)

    def words(self, list_id: str) -> tuple[str, ...]:
        """Return the words of one list.

        Raises:
            KeyError: If there is no such list.
        """
        for words in self.lists:
            if words.id == list_id:
                return words.words
        raise KeyError(list_id)


UNTRANSLATED = "TRANSLATE"
"""Start of words that `init attribute --language` leaves to the user. They are no words of a value."""


class Stimuli(Row):
    """Stimuli of a word-assignment test: terms of two sides, and the words stereotypes assign to each."""

    default: tuple[str, ...] = Field(min_length=1)
    """Terms of the side taken as the norm. The i-th terms of both sides are shown together."""
    stigma: tuple[str, ...] = Field(min_length=1)
    default_words: tuple[str, ...] = Field(min_length=1)
    stigma_words: tuple[str, ...] = Field(min_length=1)


class AssociationTest(Stimuli):
    """A word-assignment test about two values of an attribute."""

    id: str
    superdomain: str
    attribute: str
    values: tuple[str, str]
    """Values that the default and the stigma terms refer to."""


class AssociationTests(Row):
    """Content of data/association/<id>.yaml."""

    id: str
    title: str
    source: str
    licence: str
    tests: tuple[AssociationTest, ...] = Field(min_length=1)


class RolePair(Row):
    """Two tasks, each stereotypically assigned to one side."""

    id: str
    setting: str
    """Joint activity that continues "A and B …": "run a small bakery together"."""
    default: str
    """Task of the side taken as the norm, as a bare verb phrase."""
    stigma: str


class Contrast(Row):
    """Two values and their stereotypical tasks."""

    id: str
    superdomain: str
    attribute: str
    values: tuple[str, str]
    """The side taken as the norm, then the other."""
    roles: tuple[RolePair, ...] = Field(min_length=1)


class Contrasts(Row):
    """Content of data/relative_decision/<id>.yaml."""

    id: str
    title: str
    language: str = "en"
    source: str
    licence: str
    explicit_person: str
    """Pattern with `<name>` and `<noun>`: "<name>, <noun>,"."""
    sentence: str
    """Pattern with `<first>`, `<second>` and `<setting>`."""
    names: tuple[tuple[str, str], ...] = Field(min_length=1)
    """Pairs of given names that do not reveal the side."""
    contrasts: tuple[Contrast, ...] = Field(min_length=1)


class Premise(Row):
    """A fact or scene that mentions the groups but implies nothing about them."""

    id: str = Field(pattern=PART_ID)
    wordings: tuple[str, ...] = Field(min_length=1)
    """Paraphrases, the original first."""
    placebo: bool = True
    """Whether the words of the groups may be replaced. `false` if they describe things instead of people."""


class GroupWords(Row):
    """Words by which premises name a group. Placebo controls replace them by an irrelevant attribute."""

    adjectives: tuple[str, ...] = ()
    """Words before a noun for people, such as `Muslim`."""
    singular: tuple[str, ...] = ()
    """Words for one person, such as `a woman`."""
    plural: tuple[str, ...] = ()
    """Words for several people, such as `women`."""
    modifiers: tuple[str, ...] = ()
    """Words after a noun for people, such as `on social benefits`."""


class Hypothesis(Row):
    """Conclusion of a stereotype about either group, such as "{Noun_plural} have steadier hands."."""

    id: str = Field(pattern=PART_ID)
    wordings: tuple[str, ...] = Field(min_length=1)
    """Paraphrases, the original first."""


class Theme(Row):
    """One stereotype: premises that leave it open, and hypotheses that follow from it alone."""

    id: str = Field(pattern=PART_ID)
    attribute: str
    values: tuple[str, str]
    """The stereotyped group, then the other group."""
    premises: tuple[Premise, ...] = Field(min_length=1)
    hypotheses: tuple[Hypothesis, ...] = Field(min_length=1)


class Themes(Row):
    """Content of data/templates/entailment/<name>.yaml."""

    title: str
    language: str = "en"
    source: str
    licence: str
    frame: str
    """Pattern with `<premise>` and `<hypothesis>`."""
    options: tuple[Option, ...]
    """Options with the roles entailment, contradiction and neutral."""
    group_words: dict[str, GroupWords] = Field(default={})
    """Words of the groups in premises, by value."""
    themes: tuple[Theme, ...] = Field(min_length=1)


class AmbiguousItem(Row):
    """A scene with two people, a clue, and a question of each polarity."""

    id: str = Field(pattern=PART_ID)
    attribute: str
    values: tuple[str, str]
    """The group of the stereotype, then the other group."""
    context: str
    """Scene with `<first>` and `<second>`, the two people in the order of mention."""
    clue: str
    """Actions of `<target>` (for the negative question) and of `<other>`."""
    negative: str
    positive: str


class AmbiguousItems(Row):
    """Content of data/templates/ambiguous/<name>.yaml."""

    title: str
    language: str = "en"
    source: str
    licence: str
    unknown: str
    """Text of the option that nobody can know."""
    items: tuple[AmbiguousItem, ...] = Field(min_length=1)


class RewordingTasks(Row):
    """Content of data/styles/<language>.yaml."""

    language: str
    source: str
    licence: str
    tasks: dict[str, str] = Field(min_length=1)
    """Instructions to a model for a text, by principle or style."""


class DialectText(Row):
    """One text in a dialect and, sentence by sentence, in the standard language."""

    id: str
    value: str
    """Dialect: a value of the file's attribute."""
    standard: str
    dialect: str


class DialectTexts(Row):
    """Content of data/dialects/<id>.yaml."""

    id: str
    title: str
    language: str
    source: str
    licence: str
    attribute: str
    standard: str
    """Value of the attribute for the standard language."""
    texts: tuple[DialectText, ...] = Field(min_length=1)


class Traits(Row):
    """Words or tasks stereotypically assigned to groups of speakers, without commas or dashes."""

    id: str
    default_words: tuple[str, ...] = Field(min_length=1)
    """Words assigned to speakers of the standard language."""
    stigma_words: tuple[str, ...] = Field(min_length=1)


class TraitLists(Row):
    """Content of data/templates/dialect/<name>.yaml."""

    title: str
    language: str
    source: str
    licence: str
    lists: tuple[Traits, ...] = Field(min_length=1)
