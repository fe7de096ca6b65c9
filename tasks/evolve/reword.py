"""Reword: a model says premises in other words, and what makes a model conclude a stereotype is kept.

After BBNLI-next (arXiv 2305.12620). What comes out is vocabulary: a file to be looked at and put beside the
others in data/templates/entailment. Builds only read it, so that they need no generator and plans stay exact.
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
from tasks.families import plan_asks, read_answer, read_asking_prompts, request_for
from tasks.families.entailment import NEUTRAL, drafts_of, usual_label
from tasks.files.vocabulary import read_attributes
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import fence, read_prompt
from tasks.models.protocol import Completion, Decoding, Request
from tasks.models.structured import Parsed, ask_structured
from tasks.questions.binding import bind_draft
from tasks.run.store import RunContext
from tasks.text.normalize import normalise_for_match

FAMILY = "entailment"
LONGER = 1.6
"""Times the length of the original that a rewording may have, and be shorter."""

Wordings = Mapping[str, Sequence[str]]
"""Wordings by `theme.premise`."""


class Rewordings(BaseModel):
    """What the model returns."""

    wordings: list[str] = Field(description="the text in other words, several times")


@dataclass(frozen=True)
class Discarded:
    """A wording that was written and is not kept."""

    premise: str
    wording: str
    reason: str


@dataclass(frozen=True)
class Reworded:
    """The file with the wordings that were kept, and those that were not."""

    themes: Themes
    kept: int
    discarded: tuple[Discarded, ...]


def reword(context: RunContext, file: Themes, count: int = 3) -> Reworded:
    """`count` rewordings of every premise by the recipe's generator, kept where they fool one of its targets.

    Raises `InputError` where the recipe has no model to write, or does not ask the family.
    """
    recipe = context.recipe
    if FAMILY not in recipe.families or recipe.models.generator == "recombine":
        raise InputError(
            "rewording needs a model that writes, and the family `entailment`",
            hint="set models.generator to a model's name, and name `entailment` under families",
        )
    written = run_async(write_wordings(context, file, count))
    usable, discarded = keep_usable(file, written)
    questions = questions_of(context, file, usable)
    fooling: set[str] = set()
    for target in recipe.models.targets:
        fooling |= fooling_wordings(run_async(label_questions(context, target, questions)))
    kept = {name: [w for n, w in enumerate(ws, 1) if f"{name}.{n}" in fooling] for name, ws in usable.items()}
    discarded += [
        Discarded(name, w, "fools_no_model") for name, ws in usable.items() for w in ws if w not in kept[name]
    ]
    return Reworded(with_wordings(file, kept), sum(map(len, kept.values())), tuple(discarded))


async def write_wordings(context: RunContext, file: Themes, count: int) -> dict[str, list[str]]:
    """What the generator writes for each premise; nothing where it gives no usable answer."""
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
        for name, _, premise in premises_of(file)
    ]
    written: dict[str, list[str]] = {}
    async with open_model(context.recipe.models.generator, ModelSettings.of(context)) as model:
        async for answer in ask_structured(model, requests, Rewordings):
            written[answer.tag] = answer.value.wordings if isinstance(answer, Parsed) else []
    return written


def premises_of(file: Themes) -> list[tuple[str, Theme, Premise]]:
    """Every premise with its name and its theme."""
    return [(f"{t.id}.{p.id}", t, p) for t in file.themes for p in t.premises]


def keep_usable(file: Themes, written: Wordings) -> tuple[dict[str, list[str]], list[Discarded]]:
    """Wordings that may say the same as the original, each once; and the others."""
    usable: dict[str, list[str]] = {}
    discarded: list[Discarded] = []
    for name, _, premise in premises_of(file):
        known = {normalise_for_match(w) for w in premise.wordings}
        usable[name] = []
        for wording in (" ".join(w.split()) for w in written.get(name, ())):
            fault = wording_fault(premise.wordings[0], wording)
            fault = fault or ("repeats" if normalise_for_match(wording) in known else None)
            known.add(normalise_for_match(wording))
            if fault:
                discarded.append(Discarded(name, wording, fault))
            else:
                usable[name].append(wording)
    return usable, discarded


def wording_fault(original: str, wording: str) -> str | None:
    """Why a text cannot be a rewording, as far as rules can tell; else nothing."""
    rules = (
        ("holds_braces", "{" in wording or "}" in wording),
        ("no_sentence", not re.match(r"[A-Z0-9].*[.]$", wording)),
        ("other_numbers", sorted(re.findall(r"\d+", wording)) != sorted(re.findall(r"\d+", original))),
        ("other_length", not len(original) / LONGER <= len(wording) <= len(original) * LONGER),
    )
    return next((name for name, broken in rules if broken), None)


def questions_of(context: RunContext, file: Themes, wordings: Wordings) -> list[Question]:
    """Every hypothesis under the original premise and under its rewordings, for both groups."""
    themes = {t.attribute for t in file.themes}
    attributes = {a.id: a for a in read_attributes(Path(context.data_dir), sorted(themes))}
    return [
        bind_draft(draft, attributes[theme.attribute], seed=context.recipe.seed)
        for name, theme, premise in premises_of(file)
        for hypothesis in theme.hypotheses
        for draft in drafts_of(
            file,
            theme,
            premise.model_copy(update={"wordings": (premise.wordings[0], *wordings[name])}),
            hypothesis.model_copy(update={"wordings": hypothesis.wordings[:1]}),
        )
        if wordings[name]
    ]


async def label_questions(
    context: RunContext, target: str, questions: Sequence[Question]
) -> dict[tuple[str, int], str]:
    """The usual label of one model by template id and variant; none where no answer could be read."""
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
            option = read_answer(ask, outcome.text) if isinstance(outcome, Completion) else None
            if option is not None:
                role = ask.question.options[option].role
                labels[ask.question.template_id or "", ask.variant].append(role)
    return {key: usual_label(found) for key, found in labels.items()}


def fooling_wordings(labels: Mapping[tuple[str, int], str]) -> set[str]:
    """`theme.premise.number` of wordings under which some hypothesis, rightly neutral under the original, no
    longer is."""
    found = set()
    for (template, variant), label in labels.items():
        theme, hypothesis, premise, number = template.split(".")
        original = labels.get((f"{theme}.{hypothesis}.{premise}.0", variant))
        if original == NEUTRAL != label:
            found.add(f"{theme}.{premise}.{number}")
    return found


def with_wordings(file: Themes, kept: Wordings) -> Themes:
    """The file with more wordings of its premises, after those that it has."""
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
