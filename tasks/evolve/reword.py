"""Paraphrase the premises of a template file with a model and keep the paraphrases that mislead a target.

The result is a vocabulary file for data/templates/entailment, to be checked by a person. Builds only read it,
so they need no generator for it and plans stay exact.

References:
    BBNLI-next, arXiv:2305.12620.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from schemas.errors import InputError
from schemas.question import Question
from schemas.tables import derived_seed
from schemas.vocabulary import Premise, Theme, Themes
from tasks.families import plan_asks, read_ask, read_asking_prompts, request_for
from tasks.families.entailment import NEUTRAL, drafts_of, usual_label
from tasks.files.vocabulary import read_attributes
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import fence, read_prompt
from tasks.models.protocol import Completion, Decoding, Request
from tasks.models.structured import Parsed, ask_structured
from tasks.questions.binding import bind_draft
from tasks.run.store import RunContext
from tasks.text.normalize import normalise_for_match

FAMILY = "entailment"
MAX_LENGTH_RATIO = 1.6
"""Maximum ratio between the lengths of a paraphrase and its original, in either direction."""

Wordings = Mapping[str, Sequence[str]]
"""Wordings by `theme.premise`."""


class Rewordings(BaseModel):
    """What the model returns."""

    # This schema, with its docstring, is sent to the model and is part of the cache key.
    wordings: list[str] = Field(description="the text in other words, several times")


@dataclass(frozen=True)
class DiscardedWording:
    """A generated wording that was not kept."""

    premise: str
    wording: str
    reason: str


@dataclass(frozen=True)
class RewordResult:
    """The file with the kept wordings, and the discarded ones."""

    themes: Themes
    kept: int
    discarded: tuple[DiscardedWording, ...]


def reword(context: RunContext, file: Themes, count: int = 3) -> RewordResult:
    """Generate `count` rewordings of every premise and keep those that mislead one of the recipe's targets.

    Raises:
        InputError: If the recipe has no generator model or does not ask the family.
    """
    recipe = context.recipe
    if FAMILY not in recipe.families or recipe.models.generator == "recombine":
        raise InputError(
            "rewording needs a generator model and the family `entailment`",
            hint="set models.generator to a model name, and add `entailment` to families",
        )
    written = run_async(write_wordings(context, file, count))
    usable, discarded = filter_wordings(file, written)
    questions = bind_questions(context, file, usable)
    misleading: set[str] = set()
    for target in recipe.models.targets:
        misleading |= find_misleading_wordings(run_async(label_with_target(context, target, questions)))
    kept = {
        name: [wording for number, wording in enumerate(wordings, 1) if f"{name}.{number}" in misleading]
        for name, wordings in usable.items()
    }
    discarded += [
        DiscardedWording(name, wording, "fools_no_model")
        for name, wordings in usable.items()
        for wording in wordings
        if wording not in kept[name]
    ]
    return RewordResult(add_wordings(file, kept), sum(map(len, kept.values())), tuple(discarded))


async def write_wordings(context: RunContext, file: Themes, count: int) -> dict[str, list[str]]:
    """Generate wordings of each premise. A premise without a usable answer gets none.

    Raises:
        ModelError: If fewer premises get an answer than `validate.min_judged` requires.
    """
    prompt = read_prompt(Path(context.data_dir), "reword_premise")
    requests = [
        Request(
            tag=name,
            messages=prompt.fill(premise=fence(premise.wordings[0], "premise"), count=str(count)),
            decoding=Decoding(
                max_tokens=context.recipe.evolve.max_tokens,
                seed=derived_seed(context.recipe.seed, "reword", name),
            ),
            stage="reword",
        )
        for name, _, premise in list_premises(file)
    ]
    written: dict[str, list[str]] = {}
    answered = Yield(context.recipe.models.generator, "premises")
    async with open_model(context.recipe.models.generator, ModelSettings.of(context)) as model:
        async for answer in ask_structured(model, requests, Rewordings):
            written[answer.tag] = answer.value.wordings if isinstance(answer, Parsed) else []
            answered.add_answer(answer)
    require_yield([answered], context.recipe.validation.min_judged)
    return written


def list_premises(file: Themes) -> list[tuple[str, Theme, Premise]]:
    """Return every premise with its name (`theme.premise`) and theme."""
    return [(f"{t.id}.{p.id}", t, p) for t in file.themes for p in t.premises]


def filter_wordings(file: Themes, written: Wordings) -> tuple[dict[str, list[str]], list[DiscardedWording]]:
    """Split wordings into usable ones, without repetitions, and discarded ones."""
    usable: dict[str, list[str]] = {}
    discarded: list[DiscardedWording] = []
    for name, _, premise in list_premises(file):
        known = {normalise_for_match(w) for w in premise.wordings}
        usable[name] = []
        for wording in (" ".join(w.split()) for w in written.get(name, ())):
            fault = wording_fault(premise.wordings[0], wording)
            fault = fault or ("repeats" if normalise_for_match(wording) in known else None)
            known.add(normalise_for_match(wording))
            if fault:
                discarded.append(DiscardedWording(name, wording, fault))
            else:
                usable[name].append(wording)
    return usable, discarded


def wording_fault(original: str, wording: str) -> str | None:
    """Return the rule that a wording breaks, or `None`."""
    rules = (
        ("holds_braces", "{" in wording or "}" in wording),
        ("no_sentence", not re.match(r"[A-Z0-9].*[.]$", wording)),
        ("other_numbers", sorted(re.findall(r"\d+", wording)) != sorted(re.findall(r"\d+", original))),
        (
            "other_length",
            not len(original) / MAX_LENGTH_RATIO <= len(wording) <= len(original) * MAX_LENGTH_RATIO,
        ),
    )
    return next((name for name, broken in rules if broken), None)


def bind_questions(context: RunContext, file: Themes, wordings: Wordings) -> list[Question]:
    """Bind every hypothesis to the original premise and its rewordings, for both groups."""
    themes = {t.attribute for t in file.themes}
    attributes = {a.id: a for a in read_attributes(Path(context.data_dir), sorted(themes))}
    return [
        bind_draft(draft, attributes[theme.attribute], seed=context.recipe.seed)
        for name, theme, premise in list_premises(file)
        for hypothesis in theme.hypotheses
        for draft in drafts_of(
            file,
            theme,
            premise.model_copy(update={"wordings": (premise.wordings[0], *wordings[name])}),
            hypothesis.model_copy(update={"wordings": hypothesis.wordings[:1]}),
        )
        if wordings[name]
    ]


async def label_with_target(
    context: RunContext, target: str, questions: Sequence[Question]
) -> dict[tuple[str, int], str]:
    """Return a target's usual label by (template id, variant), if any answer is readable."""
    prompts = read_asking_prompts(Path(context.data_dir), (FAMILY,))
    asks = {
        request_for(ask, context.recipe, prompts).tag: ask
        for question in questions
        for ask in plan_asks(context.recipe, question, "search")
    }
    labels: dict[tuple[str, int], list[str]] = defaultdict(list)
    async with open_model(target, ModelSettings.of(context)) as model:
        requests = (request_for(ask, context.recipe, prompts) for ask in asks.values())
        async for outcome in model.complete(requests):
            ask = asks[outcome.tag]
            option = (
                read_ask(ask, outcome.text, Path(context.data_dir)).value
                if isinstance(outcome, Completion)
                else None
            )
            if option is not None:
                role = ask.question.options[int(option)].role
                labels[ask.question.template_id or "", ask.variant].append(role)
    return {key: usual_label(roles) for key, roles in labels.items()}


def find_misleading_wordings(labels: Mapping[tuple[str, int], str]) -> set[str]:
    """Return `theme.premise.number` of wordings that change a label.

    A wording is misleading if some hypothesis is neutral under the original premise, which is correct, but
    not under the wording.
    """
    misleading = set()
    for (template, variant), label in labels.items():
        theme, hypothesis, premise, number = template.split(".")
        original = labels.get((f"{theme}.{hypothesis}.{premise}.0", variant))
        if original == NEUTRAL != label:
            misleading.add(f"{theme}.{premise}.{number}")
    return misleading


def add_wordings(file: Themes, kept: Wordings) -> Themes:
    """Return the file with more wordings after the existing ones of each premise."""
    themes = [
        theme.model_copy(
            update={
                "premises": tuple(
                    p.model_copy(update={"wordings": (*p.wordings, *kept.get(f"{theme.id}.{p.id}", ()))})
                    for p in theme.premises
                )
            }
        )
        for theme in file.themes
    ]
    return file.model_copy(update={"themes": tuple(themes)})
