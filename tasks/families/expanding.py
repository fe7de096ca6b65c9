"""From templates and taxonomy to a family's questions: what `expand` makes, and what `plan` counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.attribute import Attribute
from schemas.errors import InputError
from schemas.question import Question
from schemas.recipe import Family, Recipe
from tasks.families.registry import method_of
from tasks.formats.question_files import read_question_file
from tasks.formats.vocabulary import read_attributes
from tasks.text.expansion import (
    Pair,
    draw_pairs,
    neutral_questions,
    of_superdomains,
    read_placebo,
    seed_pairs,
    template_pairs,
)
from tasks.text.questions import draw_controls, repeated_values, unique_questions


def expand_family(recipe: Recipe, data_dir: Path, family: str) -> list[Question]:
    """All questions of one family before any evolution, controls included, in the order of their ids. Those
    of the recipe's question files count towards how many are wanted, and all of them are taken.

    Raises `InputError` where nothing fits, or a template does not fit its attribute.
    """
    spec = recipe.families[family]
    attributes = read_attributes(data_dir, spec.attributes or recipe.attributes)
    imported = [q for file in spec.files for q in read_question_file(file, data_dir)]
    wanted = spec.questions - sum(q.framing == "explicit" or q.twin_id is None for q in imported)
    chosen = (
        draw_pairs(pairs_of(recipe, data_dir, family, spec, attributes), max(0, wanted), recipe.seed)
        if wanted > 0 or not spec.questions
        else []
    )
    if not chosen and not imported:
        raise InputError(
            f"family {family!r} has no template for {', '.join(a.id for a in attributes)}",
            hint=f"choose other `attributes` under families.{family}, or add a template to "
            f"data/templates/{family}/",
        )
    questions = [*imported, *(q for pair in chosen for q in _bind(pair, recipe.seed))]
    controls = [
        control
        for language in sorted({p.attribute.language for p in chosen})
        for control in draw_controls(
            [(p.explicit, p.attribute) for p in chosen if p.attribute.language == language],
            a_a=recipe.controls.a_a,
            placebo=recipe.controls.placebo,
            placebo_attribute=read_placebo(data_dir, language),
            seed=recipe.seed,
        )
    ]
    controls += repeated_values(imported, recipe.controls.a_a, recipe.seed)
    if family == "open":
        controls += neutral_questions(
            recipe, data_dir, attributes, len(chosen) + len(imported), seed=recipe.seed
        )
    kept, _ = unique_questions([*questions, *controls])
    return sorted(kept, key=lambda q: q.id)


def pairs_of(
    recipe: Recipe, data_dir: Path, family: str, spec: Family, attributes: Sequence[Attribute]
) -> list[Pair]:
    """Drafts with their attributes: advice from templates and taxonomy, others as their family makes them."""
    if family != "open":
        make = method_of(family).pairs
        return (
            make(recipe, data_dir, spec, attributes)
            if make
            else template_pairs(data_dir, family, spec, attributes)
        )
    pairs = of_superdomains(template_pairs(data_dir, family, spec, attributes), recipe.superdomains)
    wanted = max(0, spec.questions - len(pairs)) if spec.questions else 0
    return pairs + seed_pairs(recipe, data_dir, attributes, wanted)


def _bind(pair: Pair, seed: int) -> tuple[Question, ...]:
    try:
        return pair.bind(seed)
    except InputError as error:
        name = pair.explicit.template_id or pair.explicit.topic
        raise InputError(
            f"{pair.explicit.family} template {name!r} does not fit attribute {pair.attribute.id!r}: "
            f"{error.message}",
            place=error.place,
            hint=error.hint,
        ) from None
