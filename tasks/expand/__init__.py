"""Expand stage: turn templates, taxonomy and question files into questions with all variants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.errors import InputError
from schemas.labels import Dropped, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.recipe import Family, Recipe
from schemas.tables import content_id
from schemas.vocabulary import Attribute
from tasks.families import method_of
from tasks.files.questions import read_question_file
from tasks.files.vocabulary import BrokenTextsError, TextFault, read_attributes
from tasks.questions.binding import draw_controls, make_a_a_controls, split_unique
from tasks.questions.composition import (
    DraftPair,
    draw_neutral_controls,
    draw_pairs,
    filter_superdomains,
    make_seed_pairs,
    make_template_pairs,
    read_placebo,
)
from tasks.questions.quality import drop_question, question_fault
from tasks.run.store import Outcome, RunContext, Stage


def expand_family(recipe: Recipe, data_dir: Path, family: str) -> list[Question]:
    """Return all questions of one family before evolution, controls included, sorted by id.

    All questions of the recipe's question files are used and count towards the wanted number.

    Raises:
        InputError: If no template fits the attributes, or a template does not fit its attribute.
    """
    spec = recipe.families[family]
    attributes = read_attributes(data_dir, spec.attributes or recipe.attributes)
    imported, _ = split_unique(read_imported(spec, data_dir))
    wanted = spec.questions - sum(q.framing == "explicit" or q.twin_id is None for q in imported)
    chosen = (
        draw_pairs(make_family_pairs(recipe, data_dir, family, spec, attributes), max(0, wanted), recipe.seed)
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
    controls += make_a_a_controls(imported, recipe.controls.a_a, recipe.seed)
    if family == "open":
        controls += draw_neutral_controls(
            recipe, data_dir, attributes, len(chosen) + len(imported), seed=recipe.seed
        )
    kept, _ = split_unique([*questions, *controls])
    return sorted(kept, key=lambda q: q.id)


def read_imported(spec: Family, data_dir: Path) -> list[Question]:
    """Return the questions of a family's files, repeated rows included."""
    return [q for file in spec.files for q in read_question_file(file, data_dir)]


def drop_repeated_rows(questions: Iterable[Question]) -> list[Dropped]:
    """Return a dropped row for every question of a file that repeats an earlier one."""
    _, repeated = split_unique(questions)
    dropped = []
    for number, question in enumerate(repeated):
        row = drop_question(question, stage="expand", reason="repeated_row", because_of=question.id)
        dropped.append(row.model_copy(update={"id": content_id("x", row.id, str(number))}))
    return dropped


def expand_families(recipe: Recipe, data_dir: Path, families: Iterable[str]) -> dict[str, list[Question]]:
    """Return the questions of several families.

    Raises:
        BrokenTextsError: If texts of any family cannot be used. All of them are named.
        InputError: As in `expand_family`.
    """
    questions: dict[str, list[Question]] = {}
    faults: list[TextFault] = []
    for family in families:
        try:
            questions[family] = expand_family(recipe, data_dir, family)
        except BrokenTextsError as error:
            faults += error.faults
    if faults:
        raise BrokenTextsError(faults)
    return questions


def make_family_pairs(
    recipe: Recipe, data_dir: Path, family: str, spec: Family, attributes: Sequence[Attribute]
) -> list[DraftPair]:
    """Make the draft pairs of a family: from templates and taxonomy for `open`, else by its method."""
    if family != "open":
        make = method_of(family).pairs
        return (
            make(recipe, data_dir, spec, attributes)
            if make
            else make_template_pairs(data_dir, family, spec, attributes)
        )
    pairs = filter_superdomains(make_template_pairs(data_dir, family, spec, attributes), recipe.superdomains)
    wanted = max(0, spec.questions - len(pairs)) if spec.questions else 0
    return pairs + make_seed_pairs(recipe, data_dir, attributes, wanted)


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


def expand(context: RunContext, families: Sequence[str], content: Sequence[str] = ()) -> Outcome:
    """Make the questions of the given families and drop those that break a rule.

    Args:
        context: Run context.
        families: Families to expand.
        content: Hashes of the recipe's question files. They change the stage key if a file changes.
    """
    by_family = expand_families(context.recipe, Path(context.data_dir), families)
    generated = [question for questions in by_family.values() for question in questions]
    kept, dropped = apply_question_rules(generated)
    for family in families:
        files = read_imported(context.recipe.families[family], Path(context.data_dir))
        dropped += drop_repeated_rows(files)
    rows = len(kept) + len(dropped)
    counts = StageCounts(
        stage="expand", unit="questions", rows=rows, kept=len(kept), dropped=len(dropped), failed=0
    )
    return Outcome(tables={QUESTIONS: kept}, counts=(counts,), dropped=tuple(dropped))


def apply_question_rules(questions: Iterable[Question]) -> tuple[list[Question], list[Dropped]]:
    """Split questions into those that pass the rules and dropped rows."""
    kept, dropped = [], []
    for question in questions:
        fault = question_fault(question) if follows_style_rules(question) else None
        if fault is None:
            kept.append(question)
        else:
            dropped.append(drop_question(question, stage="expand", reason=fault))
    return kept, dropped


def follows_style_rules(question: Question) -> bool:
    """Return whether the rules apply: to open questions that were not imported."""
    return question.family == "open" and question.origin != "imported"


STAGE = Stage(
    "expand",
    3,
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
