"""From templates and taxonomy to a family's questions: what `expand` makes, and what `plan` counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.errors import InputError
from schemas.labels import Dropped, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.recipe import Family, Recipe
from schemas.vocabulary import Attribute
from tasks.families import method_of
from tasks.files.questions import read_question_file
from tasks.files.vocabulary import read_attributes
from tasks.questions.binding import draw_controls, repeated_values, unique_questions
from tasks.questions.composition import (
    DraftPair,
    draw_pairs,
    neutral_questions,
    of_superdomains,
    read_placebo,
    seed_pairs,
    template_pairs,
)
from tasks.questions.quality import drop_question, question_fault
from tasks.run.store import Outcome, RunContext, Stage


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
) -> list[DraftPair]:
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


def _bind(pair: DraftPair, seed: int) -> tuple[Question, ...]:
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


# Expand: templates and taxonomy become questions, each with all of its variants.


def expand(context: RunContext, families: Sequence[str], content: Sequence[str] = ()) -> Outcome:
    """Every question of the given families; those that break a rule are dropped with its name.

    `content`: hashes of the question files that the recipe names, so that a changed file is read again.
    """
    generated = [
        question
        for family in families
        for question in expand_family(context.recipe, Path(context.data_dir), family)
    ]
    kept, dropped = check_questions(generated)
    counts = StageCounts(
        stage="expand", unit="questions", rows=len(generated), kept=len(kept), dropped=len(dropped), failed=0
    )
    return Outcome(tables={QUESTIONS: kept}, counts=(counts,), dropped=tuple(dropped))


def check_questions(questions: Iterable[Question]) -> tuple[list[Question], list[Dropped]]:
    """Advice questions must pass the rules of a good question; others only expand, and so do questions that
    others made: their style is theirs."""
    kept, dropped = [], []
    for question in questions:
        fault = question_fault(question) if is_ours(question) else None
        if fault is None:
            kept.append(question)
        else:
            dropped.append(drop_question(question, stage="expand", reason=fault))
    return kept, dropped


def is_ours(question: Question) -> bool:
    """Whether our own rules of style hold for a question."""
    return question.family == "open" and question.origin != "imported"


STAGE = Stage(
    "expand",
    2,
    run=expand,
    reads=("attributes", "superdomains", "families", "controls"),
    vocabulary=(
        "attributes",
        "templates",
        "taxonomy",
        "frames",
        "imports",
        "association",
        "relative_decision",
        "dialects",
    ),
)
