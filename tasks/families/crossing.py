"""Templates crossed with lists of opposed words: one question for each pair that is given.

A completion gives one side and asks for the other. The pairs that stand for `{given}` and the triples that
are offered come from lists (data/triples), so that a score does not hang on a few words. Options go round:
the k-th pair of a template meets the k-th triple from where that template begins, so that each pair is
given once in every template, each triple is offered about equally often, and no text is asked twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from schemas.attribute import Attribute
from schemas.errors import InputError
from schemas.ids import derived_seed
from schemas.question import Option
from schemas.recipe import Family, Recipe
from schemas.vocabulary import TemplateItem
from tasks.formats.vocabulary import GIVEN, read_templates, read_triples
from tasks.text.expansion import Pair, template_pairs
from tasks.text.questions import Draft
from tasks.text.slots import Slot

Triple = tuple[str, str, str]
"""Favoured, unfavoured, unrelated."""
ROLES = ("stereotype", "anti_stereotype", "unrelated")
VALENCES = (1, -1, 0)


def crossed_pairs(
    recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]
) -> list[Pair]:
    """Every template with every attribute that it fits; those with `{given}` once for each of their pairs."""
    files = read_templates(data_dir, "completion", spec.templates)
    items = {item.id: item for file in files for item in file.items}
    names = {n for item in items.values() for n in (*item.given_from, *item.options_from)}
    lists = {name: read_triples(data_dir, name).triples for name in sorted(names)}
    return [
        replace(pair, explicit=draft)
        for pair in template_pairs(data_dir, "completion", spec, attributes)
        for draft in _crossed(pair, items[pair.explicit.template_id or ""], lists)
    ]


def _crossed(pair: Pair, item: TemplateItem, lists: Mapping[str, Sequence[Triple]]) -> list[Draft]:
    if not item.given_from:
        return [pair.explicit]
    given = [triple for name in item.given_from for triple in lists[name]]
    offered = [triple for name in item.options_from for triple in lists[name]]
    start = derived_seed("options", item.id) % len(offered)
    return [
        replace(
            pair.explicit,
            text=item.text.replace(GIVEN, str(_side_slot(favoured, other, pair.attribute))),
            options=_options(offered[(start + k) % len(offered)]),
            template_id=f"{item.id}/{favoured}",
        )
        for k, (favoured, other, _) in enumerate(given)
    ]


def _side_slot(favoured: str, other: str, attribute: Attribute) -> Slot:
    """For each value the word of its side."""
    sides = [value.valence for value in attribute.values]
    if not set(sides) <= {1, -1}:
        raise InputError(
            f"attribute {attribute.id!r} has values that are on neither side",
            hint=f"for templates with {GIVEN} every value needs `valence: 1` or `valence: -1`",
        )
    return Slot(tuple(favoured if side == 1 else other for side in sides))


def _options(triple: Triple) -> tuple[Option, ...]:
    return tuple(
        Option(text=text, role=role, valence=valence)
        for text, role, valence in zip(triple, ROLES, VALENCES, strict=True)
    )


def template_of(template_id: str) -> str:
    """The template that a question was made from, whatever was given: scores are resampled by it."""
    return template_id.partition("/")[0]
