"""Translate the questions of a recipe, and write a table of own questions for people to review."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.outputs import Outputs, existing, protect
from flows.workspace import read_recipe, recipe_path, recipe_workspace
from schemas.errors import InputError
from schemas.options import TranslateOptions
from schemas.recipe import Models, Recipe
from tasks.expand import complete_families, expand_families, read_own_table
from tasks.files.own_questions import OwnTable
from tasks.files.tables import write_csv
from tasks.files.vocabulary import read_templates
from tasks.models import ModelSettings
from tasks.models.preflight import preflight
from tasks.run.store import RunContext, run_lock
from tasks.translate import COLUMNS, Original, translate

TRANSLATED_FAMILIES = ("open", "decision", "agreement")
"""Families with plain texts and options as templates."""


def run_translate(options: TranslateOptions) -> dict[str, Any]:
    """Translate, write the table and return the fields of `translate --json`.

    Raises:
        InputError: If there is nothing to translate, an attribute has no words in the language, or the model
            is not usable.
        BudgetError: If the budget does not cover the calls.
    """
    workspace = recipe_workspace(options.recipe)
    written = read_recipe(options.recipe)
    free = (*written.budget.free, *options.free)
    context = workspace.context(written, budget_usd=options.budget_usd)
    own = read_own_table(context)
    recipe = with_model(complete_families(written, own), options.model, free)
    run_dir = workspace.runs / f"{recipe.name}-translate-{options.to}"
    context = context.model_copy(update={"recipe": recipe, "run_dir": str(run_dir)})
    originals = find_originals(context, own, options.to)
    if not originals:
        raise InputError(
            f"the recipe has no questions to translate to {options.to!r}",
            place=str(options.recipe),
            hint=f"translated are own questions and the families {', '.join(TRANSLATED_FAMILIES)}",
        )
    beside = recipe_path(options.recipe)
    out = options.out or beside.with_name(f"{beside.stem}.{options.to}.csv")
    outputs = Outputs((out,), inputs=existing((options.recipe,)))
    with protect(outputs, "translate", options, workspace.home), run_lock(run_dir):
        preflight([options.model], ModelSettings.of(context))
        done, rejected = translate(context, originals, options.to, options.model, options.min_similarity)
        write_csv(out, COLUMNS, [t.row(options.to) for t in done])
    return {
        "path": str(out),
        "language": options.to,
        "translatable": len(originals),
        "written": len(done),
        "rejected": len(rejected),
        "reasons": [r.to_json() for r in rejected],
        "next": f"write `accepted` or `rejected` in the column `review` of {out}, and add it to `questions`",
    }


def with_model(recipe: Recipe, model: str, free: tuple[str, ...]) -> Recipe:
    """Return the recipe with the translator as its only model, so that the limits and prices of it apply."""
    models = Models(targets=(model,), may_share_family=True)
    budget = recipe.budget.model_copy(update={"free": free})
    return recipe.model_copy(update={"models": models, "budget": budget})


def find_originals(context: RunContext, own: OwnTable, language: str) -> list[Original]:
    """Return the own questions and templates in other languages, each once, without twins by name."""
    kept: dict[str, Original] = {}
    have = {(q.template_id, q.attribute) for q in own.questions if q.language == language and q.template_id}
    for row in own.rows:
        q = row.question
        if q.language != language and (q.template_id, q.attribute) not in have:
            kept.setdefault(q.id, Original(q, row.text))
    for original in find_templates(context, language):
        kept.setdefault(original.question.id, original)
    return list(kept.values())


def find_templates(context: RunContext, language: str) -> Iterator[Original]:
    """Yield the questions that the recipe draws from templates, with the text of the template."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    families = [f for f in recipe.families if f in TRANSLATED_FAMILIES and recipe.families[f].shipped]
    for family, questions in expand_families(recipe, data_dir, families).items():
        files = read_templates(data_dir, family, recipe.families[family].templates)
        texts = {item.id: item.text for file in files for item in file.items}
        for q in questions:
            is_plain = q.control == "none" and q.framing == "explicit" and q.language != language
            if is_plain and q.origin != "imported":
                yield Original(q, texts.get(q.template_id or "", q.template))
