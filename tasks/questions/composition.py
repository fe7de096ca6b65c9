"""Compose questions from templates and from the taxonomy, without a model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.errors import InputError
from schemas.question import Framing, Question
from schemas.recipe import Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, Domain, Frames, Superdomain, TemplateItem, Topic
from tasks.files.vocabulary import (
    GIVEN,
    BrokenTextsError,
    TextFault,
    read_attribute,
    read_frames,
    read_taxonomy,
    read_templates,
)
from tasks.questions.binding import (
    ControlSource,
    Draft,
    bind_draft,
    count_controls,
    draw_controls,
    link_twins,
)
from tasks.questions.quality import template_fault

Composition = dict[str, str]
"""Parts of a text by name: `relation`, `place`, `when`, `situation`, `stake`, `ask`, `pattern`."""

PARTS = ("pattern", "when", "place", "relation", "stake", "ask")
PLACEBO = "placebo"
"""Attribute file for placebo controls. In other languages it is `placebo-<language>`."""
FRAGMENTS = frozenset({"autocomplete", "perplexity_pair"})
"""Families with beginnings of sentences as texts, in lower case."""
LONGEST_EXCERPT = 160
"""Characters of a broken text that an error shows."""
TWIN = ".implicit"
"""Suffix of the id of a template that is the implicit twin of another one."""


def compose(
    superdomain: Superdomain, domain: Domain, topic: Topic, frames: Frames, *, seed: int
) -> Composition:
    """Draw every part of a text for a topic by seed, among the parts that fit its kind."""
    choices: dict[str, Sequence[str]] = {
        "pattern": frames.patterns,
        "when": frames.when,
        "place": topic.places or domain.places or superdomain.places,
        "relation": topic.relations or domain.relations or superdomain.relations,
        "stake": frames.stakes_for(topic.kind),
        "ask": frames.asks_for(topic.kind),
    }
    parts = {name: _pick(choices[name], seed, topic.id, name) for name in PARTS}
    return {**parts, "situation": topic.situation}


def fits_topic(composition: Composition, topic: Topic, frames: Frames) -> bool:
    """Return whether the stake and the request of a composition fit a topic."""
    stakes, asks = frames.stakes_for(topic.kind), frames.asks_for(topic.kind)
    return composition["stake"] in stakes and composition["ask"] in asks


def _pick(options: Sequence[str], *parts: object) -> str:
    return options[derived_seed(*parts) % len(options)]


def write_text(composition: Composition, frames: Frames, framing: Framing) -> str:
    """Join the parts of a composition into a text with `{form}` references for the person."""
    person = frames.explicit_person if framing == "explicit" else frames.implicit_person
    parts = {**composition, "person": person.replace("<relation>", composition["relation"])}
    text = re.sub(r"<(\w+)>", lambda m: parts[m.group(1)], composition["pattern"])
    text = re.sub(r",\s*([.?!])", r"\1", text)
    return re.sub(r"(^|[.?!] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)


def make_explicit_draft(
    composition: Composition,
    superdomain: Superdomain,
    domain: Domain,
    topic: Topic,
    frames: Frames,
    *,
    is_neutral: bool,
) -> Draft:
    """Make an explicit draft of a composition."""
    return Draft(
        text=write_text(composition, frames, "explicit"),
        family="open",
        superdomain=superdomain.id,
        domain=domain.id,
        topic=topic.id,
        origin="seed",
        composition=composition,
        neutral=is_neutral,
    )


def make_implicit_draft(draft: Draft, frames: Frames) -> Draft:
    """Make the implicit twin of a composed draft, with a name in place of the group.

    Raises:
        ValueError: If the draft has no composition.
    """
    if draft.composition is None:
        raise ValueError("a draft without a composition has no implicit form")
    return replace(draft, text=write_text(draft.composition, frames, "implicit"), framing="implicit")


@dataclass(frozen=True)
class DraftPair:
    """A draft with its implicit twin, if any, and their attribute."""

    explicit: Draft
    implicit: Draft | None
    attribute: Attribute

    @property
    def source(self) -> ControlSource:
        """The pair as the source of controls."""
        return ControlSource(self.explicit, self.implicit, self.attribute)

    def bind(self, seed: int) -> tuple[Question, ...]:
        """Bind the draft and its twin, and link them."""
        explicit = bind_draft(self.explicit, self.attribute, seed=seed)
        if self.implicit is None:
            return (explicit,)
        return link_twins(explicit, bind_draft(self.implicit, self.attribute, seed=seed))


def make_template_pairs(
    data_dir: Path, family: str, spec: Family, attributes: Sequence[Attribute]
) -> list[DraftPair]:
    """Pair every template of a family with every fitting attribute, and `x` with its twin `x.implicit`.

    Raises:
        BrokenTextsError: If a text cannot be used with one of its attributes.
    """
    faults: list[TextFault] = []
    files = read_templates(data_dir, family, spec.templates, faults)
    items = [(item, file.language) for file in files for item in file.items]
    implicit = {i.id.removesuffix(TWIN): i for i, _ in items if i.id.endswith(TWIN)}
    pairs = []
    for item, language in items:
        if item.id.endswith(TWIN):
            continue
        for attribute in attributes:
            if attribute.language != language or (item.attributes and attribute.id not in item.attributes):
                continue
            twin = implicit.get(item.id) if supports_implicit(spec, attribute) else None
            pairs.append(
                DraftPair(
                    _draft_of_item(item, family, attribute),
                    _draft_of_item(twin, family, attribute) if twin else None,
                    attribute,
                )
            )
    unusable = {fault.text for fault in faults}
    folder = str(data_dir / "templates" / family)
    for pair in pairs:
        for draft in (pair.explicit, pair.implicit):
            if draft is not None and not {draft.template_id, _name(draft, pair.attribute)} & unusable:
                faults += draft_faults(draft, pair.attribute, folder)
    if faults:
        raise BrokenTextsError(faults)
    return pairs


def _name(draft: Draft, attribute: Attribute) -> str:
    return f"{draft.template_id} with {attribute.id}"


def draft_faults(draft: Draft, attribute: Attribute, place: str) -> list[TextFault]:
    """Return why a template cannot be used with an attribute: a form or slot, or the first broken variant."""
    filled = replace(draft, text=draft.text.replace(GIVEN, "given"), name_at=0)
    try:
        question = bind_draft(filled, attribute, seed=0)
    except InputError as error:
        return [TextFault(place, _name(draft, attribute), error.message)]
    for variant in question.variants:
        is_fragment = draft.family in FRAGMENTS
        fault = template_fault(variant.text, attribute.language, is_fragment=is_fragment)
        if fault is not None:
            shown = variant.text[:LONGEST_EXCERPT]
            return [TextFault(place, _name(draft, attribute), f"{fault} for {variant.value}: {shown!r}")]
    return []


def _draft_of_item(item: TemplateItem, family: str, attribute: Attribute) -> Draft:
    return Draft(
        text=item.text,
        family=family,
        superdomain=item.superdomain,
        domain=item.domain,
        topic=item.topic,
        origin="template",
        framing=item.framing,
        options=item.options,
        values=item.values,
        template_id=item.id,
        neutral=is_neutral(attribute, item.neutral_for),
    )


def supports_implicit(spec: Family, attribute: Attribute) -> bool:
    """Return whether the family uses implicit framing and every value has a name."""
    return "implicit" in spec.framings and all("name" in v.forms for v in attribute.values)


def filter_superdomains(pairs: list[DraftPair], superdomains: Sequence[str]) -> list[DraftPair]:
    """Return the pairs of the given superdomains, or all pairs if none are given."""
    return [p for p in pairs if not superdomains or p.explicit.superdomain in superdomains]


def list_topics(taxonomy: Iterable[Superdomain]) -> list[tuple[Superdomain, Domain, Topic]]:
    """Return every topic with its superdomain and domain."""
    return [(s, d, t) for s in taxonomy for d in s.domains for t in d.topics]


def make_seed_pairs(
    recipe: Recipe, data_dir: Path, attributes: Sequence[Attribute], count: int
) -> list[DraftPair]:
    """Compose `count` questions from the taxonomy, spread over attributes and domains."""
    if not count:
        return []
    leaves = list_topics(read_taxonomy(data_dir, recipe.superdomains))
    pairs = _compose_pairs(recipe, data_dir, attributes, leaves, neutral=False, seed=recipe.seed)
    return draw_pairs(pairs, count, recipe.seed)


def _compose_pairs(
    recipe: Recipe,
    data_dir: Path,
    attributes: Sequence[Attribute],
    leaves: Sequence[tuple[Superdomain, Domain, Topic]],
    *,
    neutral: bool,
    seed: int,
) -> list[DraftPair]:
    """Compose every topic with every attribute of its language, either neutral topics or all others.

    A language without topics gives none.
    """
    languages = {a.language for a in attributes} & {leaf[0].language for leaf in leaves}
    frames = {language: read_frames(data_dir, language) for language in sorted(languages)}
    return [
        compose_pair(recipe, frames[attribute.language], attribute, *leaf, seed=seed)
        for attribute in attributes
        for leaf in leaves
        if leaf[0].language == attribute.language and is_neutral(attribute, leaf[2].neutral_for) == neutral
    ]


def read_placebo(data_dir: Path, language: str) -> Attribute:
    """Read the irrelevant attribute for placebo controls in a language."""
    return read_attribute(data_dir, PLACEBO if language == "en" else f"{PLACEBO}-{language}")


def is_neutral(attribute: Attribute, neutral_for: Iterable[str]) -> bool:
    """Return whether different answers are legitimate for the attribute, a factor of it or a related one."""
    return not {attribute.id, *attribute.factors, *attribute.related}.isdisjoint(neutral_for)


def compose_pair(
    recipe: Recipe,
    frames: Frames,
    attribute: Attribute,
    superdomain: Superdomain,
    domain: Domain,
    topic: Topic,
    *,
    seed: int,
) -> DraftPair:
    """Compose a topic by seed, with an implicit twin if the recipe and the attribute support it."""
    composition = compose(superdomain, domain, topic, frames, seed=derived_seed(seed, attribute.id))
    draft = make_explicit_draft(
        composition, superdomain, domain, topic, frames, is_neutral=is_neutral(attribute, topic.neutral_for)
    )
    twin = (
        make_implicit_draft(draft, frames) if supports_implicit(recipe.families["open"], attribute) else None
    )
    return DraftPair(draft, twin, attribute)


def draw_recipe_controls(
    recipe: Recipe,
    data_dir: Path,
    sources: Iterable[ControlSource],
    *,
    seed: int,
    without: Collection[str] = (),
    placebo_slots: str | None = None,
) -> list[Question]:
    """Make the A/A and placebo controls that a recipe asks for, language by language. See `draw_controls`."""
    by_language: dict[str, list[ControlSource]] = defaultdict(list)
    for source in sources:
        by_language[source.attribute.language].append(source)
    return [
        control
        for language, inside in sorted(by_language.items())
        for control in draw_controls(
            inside,
            a_a=recipe.controls.a_a,
            placebo=recipe.controls.placebo,
            placebo_attribute=read_placebo(data_dir, language),
            seed=seed,
            without=without,
            placebo_slots=placebo_slots,
        )
    ]


def draw_neutral_controls(
    recipe: Recipe,
    data_dir: Path,
    attributes: Sequence[Attribute],
    questions: int,
    *,
    seed: int,
    round: int = 0,
) -> list[Question]:
    """Draw neutral controls: questions on topics with legitimately different answers.

    Args:
        recipe: The recipe.
        data_dir: Vocabulary directory.
        attributes: Attributes of the questions.
        questions: Number of questions, which determines the number of controls.
        seed: Seed of the draw.
        round: Round of the controls.
    """
    count = count_controls(questions, recipe.controls.neutral)
    if not count:
        return []
    pairs = _compose_pairs(
        recipe, data_dir, attributes, list_topics(read_taxonomy(data_dir)), neutral=True, seed=seed
    )
    chosen = draw_pairs(pairs, count, seed)
    return [bind_draft(replace(p.explicit, round=round), p.attribute, seed=recipe.seed) for p in chosen]


def draw_pairs(pairs: Sequence[DraftPair], count: int, seed: int) -> list[DraftPair]:
    """Draw `count` pairs by seed, or all if it is 0.

    They are spread evenly over attributes, then over superdomains, then over domains.
    """
    by_domain: dict[tuple[str, str, str], list[DraftPair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda p: derived_seed(seed, p.attribute.id, p.explicit.text)):
        by_domain[pair.attribute.id, pair.explicit.superdomain, pair.explicit.domain].append(pair)
    by_attribute: dict[str, dict[str, list[list[DraftPair]]]] = defaultdict(lambda: defaultdict(list))
    for attribute, superdomain, domain in sorted(by_domain, key=lambda key: derived_seed(seed, *key)):
        by_attribute[attribute][superdomain].append(by_domain[attribute, superdomain, domain])
    drawn = _interleave(
        [
            _interleave([_interleave(domains) for domains in by_superdomain.values()])
            for _, by_superdomain in sorted(by_attribute.items())
        ]
    )
    return drawn[:count] if count else drawn


def _interleave(lists: Sequence[list[DraftPair]]) -> list[DraftPair]:
    """Return the first item of each list, then the second of each, and so on."""
    longest = max((len(items) for items in lists), default=0)
    return [items[i] for i in range(longest) for items in lists if i < len(items)]
