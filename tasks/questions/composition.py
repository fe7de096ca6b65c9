"""Questions put together from the taxonomy without a model: a topic, a place, a stake, a way to ask."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.question import Framing, Question
from schemas.recipe import Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, Domain, Frames, Superdomain, TemplateItem, Topic
from tasks.files.vocabulary import read_attribute, read_frames, read_taxonomy, read_templates
from tasks.questions.binding import Draft, bind_draft, control_count, link_twins

Composition = dict[str, str]
"""The parts of a text by name: `relation`, `place`, `when`, `situation`, `stake`, `ask`, `pattern`."""

PARTS = ("pattern", "when", "place", "relation", "stake", "ask")


def compose(superdomain: Superdomain, topic: Topic, frames: Frames, *, seed: int) -> Composition:
    """One draw of every part for a topic; the seed decides."""
    asks = [ask for register in sorted(frames.asks) for ask in frames.asks[register]]
    choices: dict[str, Sequence[str]] = {
        "pattern": frames.patterns,
        "when": frames.when,
        "place": superdomain.places,
        "relation": superdomain.relations,
        "stake": frames.stakes,
        "ask": asks,
    }
    parts = {name: _pick(choices[name], seed, topic.id, name) for name in PARTS}
    return {**parts, "situation": topic.situation}


def _pick(options: Sequence[str], *parts: object) -> str:
    return options[derived_seed(*parts) % len(options)]


def write_text(composition: Composition, frames: Frames, framing: Framing) -> str:
    """The text of a composition, with `{form}` references where the person is named."""
    person = frames.explicit_person if framing == "explicit" else frames.implicit_person
    parts = {**composition, "person": person.replace("<relation>", composition["relation"])}
    text = re.sub(r"<(\w+)>", lambda m: parts[m.group(1)], composition["pattern"])
    text = re.sub(r",\s*([.?!])", r"\1", text)
    return re.sub(r"(^|[.?!] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)


def draft_of(
    composition: Composition,
    superdomain: Superdomain,
    domain: Domain,
    topic: Topic,
    frames: Frames,
    attribute_id: str,
) -> Draft:
    """An explicit draft of a composition, ready to be bound to an attribute."""
    return Draft(
        text=write_text(composition, frames, "explicit"),
        family="open",
        superdomain=superdomain.id,
        domain=domain.id,
        topic=topic.id,
        origin="seed",
        composition=composition,
        neutral=attribute_id in topic.neutral_for,
    )


def implicit_draft(draft: Draft, frames: Frames) -> Draft:
    """The same composition with a name in place of the word for the group."""
    if draft.composition is None:
        raise ValueError("only a composed draft has an implicit form by rule")
    return replace(draft, text=write_text(draft.composition, frames, "implicit"), framing="implicit")


# From templates and taxonomy to questions: what `expand` makes, and what `plan` counts.


PLACEBO = "placebo"
"""The attribute file that placebo controls are bound to; in another language `placebo-<language>`."""


TWIN = ".implicit"
"""How the id of a template ends that is another one's implicit twin; an implicit template may stand alone."""


@dataclass(frozen=True)
class DraftPair:
    """A draft with its implicit twin (where there is one) and the attribute that both are bound to."""

    explicit: Draft
    implicit: Draft | None
    attribute: Attribute

    def bind(self, seed: int) -> tuple[Question, ...]:
        """One question, or two that know each other."""
        explicit = bind_draft(self.explicit, self.attribute, seed=seed)
        if self.implicit is None:
            return (explicit,)
        return link_twins(explicit, bind_draft(self.implicit, self.attribute, seed=seed))


def template_pairs(
    data_dir: Path, family: str, spec: Family, attributes: Sequence[Attribute]
) -> list[DraftPair]:
    """Every template of a family with every attribute that it fits; twins `x` and `x.implicit` together."""
    files = read_templates(data_dir, family, spec.templates)
    items = [(item, file.language) for file in files for item in file.items]
    implicit = {i.id.removesuffix(TWIN): i for i, _ in items if i.id.endswith(TWIN)}
    pairs = []
    for item, language in items:
        if item.id.endswith(TWIN):
            continue
        for attribute in attributes:
            if attribute.language != language or (item.attributes and attribute.id not in item.attributes):
                continue
            twin = implicit.get(item.id) if wants_names(spec, attribute) else None
            pairs.append(
                DraftPair(
                    _draft_of_item(item, family, attribute),
                    _draft_of_item(twin, family, attribute) if twin else None,
                    attribute,
                )
            )
    return pairs


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
        neutral=_is_neutral(attribute, item.neutral_for),
    )


def wants_names(spec: Family, attribute: Attribute) -> bool:
    """Implicit framing needs a name for every value."""
    return "implicit" in spec.framings and all("name" in v.forms for v in attribute.values)


def of_superdomains(pairs: list[DraftPair], superdomains: Sequence[str]) -> list[DraftPair]:
    return [p for p in pairs if not superdomains or p.explicit.superdomain in superdomains]


def all_topics(taxonomy: Iterable[Superdomain]) -> list[tuple[Superdomain, Domain, Topic]]:
    """The leaves of the taxonomy, each with what it stands under."""
    return [(s, d, t) for s in taxonomy for d in s.domains for t in d.topics]


def seed_pairs(
    recipe: Recipe, data_dir: Path, attributes: Sequence[Attribute], count: int
) -> list[DraftPair]:
    """`count` questions composed from the taxonomy, spread over attributes and domains."""
    if not count:
        return []
    leaves = all_topics(read_taxonomy(data_dir, recipe.superdomains))
    everything = _composed_pairs(recipe, data_dir, attributes, leaves, neutral=False, seed=recipe.seed)
    return draw_pairs(everything, count, recipe.seed)


def _composed_pairs(
    recipe: Recipe,
    data_dir: Path,
    attributes: Sequence[Attribute],
    leaves: Sequence[tuple[Superdomain, Domain, Topic]],
    *,
    neutral: bool,
    seed: int,
) -> list[DraftPair]:
    """Every topic with every attribute of its language: those on which a different answer is legitimate, or
    the others. A language without topics gives none."""
    languages = {a.language for a in attributes} & {leaf[0].language for leaf in leaves}
    frames = {language: read_frames(data_dir, language) for language in sorted(languages)}
    return [
        composed_pair(recipe, frames[attribute.language], attribute, *leaf, seed=seed)
        for attribute in attributes
        for leaf in leaves
        if leaf[0].language == attribute.language and _is_neutral(attribute, leaf[2].neutral_for) == neutral
    ]


def read_placebo(data_dir: Path, language: str) -> Attribute:
    """The attribute that cannot matter, in that language: `placebo`, or `placebo-<language>`."""
    return read_attribute(data_dir, PLACEBO if language == "en" else f"{PLACEBO}-{language}")


def _is_neutral(attribute: Attribute, neutral_for: Iterable[str]) -> bool:
    """Whether a different answer is legitimate for the attribute, or for one of its factors."""
    return not {attribute.id, *attribute.factors}.isdisjoint(neutral_for)


def composed_pair(
    recipe: Recipe,
    frames: Frames,
    attribute: Attribute,
    superdomain: Superdomain,
    domain: Domain,
    topic: Topic,
    *,
    seed: int,
) -> DraftPair:
    """A topic put into words by seed, with its implicit twin where the recipe and the attribute have one."""
    composition = compose(superdomain, topic, frames, seed=derived_seed(seed, attribute.id))
    draft = draft_of(composition, superdomain, domain, topic, frames, attribute.id)
    twin = implicit_draft(draft, frames) if wants_names(recipe.families["open"], attribute) else None
    return DraftPair(draft, twin, attribute)


def neutral_questions(
    recipe: Recipe,
    data_dir: Path,
    attributes: Sequence[Attribute],
    beside: int,
    *,
    seed: int,
    round: int = 0,
) -> list[Question]:
    """Controls on topics where a different answer is legitimate."""
    count = control_count(beside, recipe.controls.neutral)
    if not count:
        return []
    pairs = _composed_pairs(
        recipe, data_dir, attributes, all_topics(read_taxonomy(data_dir)), neutral=True, seed=seed
    )
    chosen = draw_pairs(pairs, count, seed)
    return [bind_draft(replace(p.explicit, round=round), p.attribute, seed=recipe.seed) for p in chosen]


def draw_pairs(pairs: Sequence[DraftPair], count: int, seed: int) -> list[DraftPair]:
    """`count` pairs by seed, spread as evenly as they allow over attributes, in each over superdomains, and
    in these over domains; 0: all of them."""
    shelves: dict[tuple[str, str, str], list[DraftPair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda p: derived_seed(seed, p.attribute.id, p.explicit.text)):
        shelves[pair.attribute.id, pair.explicit.superdomain, pair.explicit.domain].append(pair)
    cases: dict[str, dict[str, list[list[DraftPair]]]] = defaultdict(lambda: defaultdict(list))
    for attribute, superdomain, domain in sorted(shelves, key=lambda k: derived_seed(seed, *k)):
        cases[attribute][superdomain].append(shelves[attribute, superdomain, domain])
    lanes = [_in_turn([_in_turn(case) for case in cases[a].values()]) for a in sorted(cases)]
    drawn = _in_turn(lanes)
    return drawn[:count] if count else drawn


def _in_turn(lists: Sequence[list[DraftPair]]) -> list[DraftPair]:
    """One of each, then the next of each, until all are empty."""
    longest = max((len(items) for items in lists), default=0)
    return [items[i] for i in range(longest) for items in lists if i < len(items)]
