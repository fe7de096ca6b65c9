"""Questions put together from the taxonomy without a model: a topic, a place, a stake, a way to ask."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from schemas.ids import derived_seed
from schemas.question import Framing
from schemas.vocabulary import Domain, Frames, Superdomain, Topic
from tasks.text.questions import Draft

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
