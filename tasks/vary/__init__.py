"""Vary stage: reword the selected questions, to separate an effect from the noise of its wording.

The template is reworded, never a filled variant, so that all values get the same wording. Slots must survive
in number and order. A judge of another model family compares the result with the original. After five
attempts a wording is given up, and the question has one variant less.

References:
    Meta probing agents, arXiv:2402.14865. MetaRAG, arXiv:2509.09360. LLMAuditor, arXiv:2402.09346.
    SORRY-Bench, arXiv:2406.14598.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, Field

from schemas.errors import InputError
from schemas.labels import StageCounts
from schemas.notes import VariationNotes
from schemas.question import QUESTIONS, SELECTED, Option, Question
from schemas.recipe import Recipe
from schemas.tables import content_id, derived_seed
from schemas.vocabulary import RewordingTasks
from tasks.files.yaml import read_yaml
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.model_families import model_family, read_model_families
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, Request
from tasks.models.structured import Parsed, Spent, ask_structured, sum_call_costs
from tasks.questions.quality import fluency_fault
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.normalize import normalise_for_match
from tasks.text.slots import Slot, expand_template, parse_slots

ATTEMPTS = 5
"""Attempts per wording, as published."""
MAX_GROWTH = {"paraphrase": 1.8, "choice": 1.8}
"""Longest wording relative to the original. Principles that are not listed may add a sentence or two."""
OTHER_GROWTH = 3.5
PERMUTE, CHOICE = "permute", "choice"
STYLE = "style_"
"""Prefix of the principle of a style."""
ROUGH_STYLES = frozenset({"style_slang", "style_dialect", "style_misspellings"})
"""Styles that break rules of English on purpose."""

WORD_LISTS = ("association", "dialect")
"""Families with lists of words as texts."""

_MARK = re.compile(r"\[\[(\d+)\]\]")
_LABEL = re.compile(r"\b[A-Z][a-z]+:")
_FIXED = re.compile(r"\d+|\bBLANK\b")


class RewordedText(BaseModel):
    """What the model returns."""

    # The JSON schemas of these classes, docstrings included, are part of the cache key.
    text: str = Field(description="the reworded text")


class RewordedOptions(BaseModel):
    """What the model returns."""

    options: list[str] = Field(description="the reworded options, in the order shown")


class ComparedTexts(BaseModel):
    """What the judge returns."""

    problem: str = Field(description="what differs, or an empty string")
    same: int = Field(ge=0, le=1, description="1: a good answer to one is a good answer to the other")


@dataclass(frozen=True)
class Wish:
    """One variant to make."""

    question: Question
    principle: str
    number: int

    @property
    def tag(self) -> str:
        """Name of its calls."""
        return f"{self.question.id}/{self.principle}/{self.number}"


@dataclass
class Made:
    """The variants, and the outcomes of the calls."""

    variants: list[Question] = field(default_factory=list)
    given_up: Counter[str] = field(default_factory=Counter)
    """Variants that could not be made, by principle."""
    faults: Counter[str] = field(default_factory=Counter)
    """Rejected wordings by reason."""
    spent: list[tuple[str, Spent]] = field(default_factory=list)


def vary(context: RunContext, questions: TableRef) -> Outcome:
    """Reword the selected questions by the recipe's principles and styles.

    Returns:
        The variants only.

    Raises:
        ModelError: If the model or the judge gives too few usable answers.
    """
    known = read_table(questions, QUESTIONS)
    wishes = list(list_wishes(context.recipe, known))
    made = Made()
    made.variants += [permuted(w) for w in wishes if w.principle == PERMUTE]
    by_model: dict[str, list[Wish]] = {}
    for wish in wishes:
        if wish.principle != PERMUTE:
            by_model.setdefault(model_for(context.recipe, wish.principle), []).append(wish)
    for model, wanted in sorted(by_model.items()):
        run_async(reword_all(context, model, wanted, made))
    variants = sorted({q.id: q for q in made.variants}.values(), key=lambda q: q.id)
    counts = StageCounts(
        stage="vary", unit="variants", rows=len(wishes), kept=len(variants), dropped=0,
        failed=len(wishes) - len(variants),
    )  # fmt: skip
    notes = VariationNotes(
        wanted=len(wishes),
        made=len(variants),
        given_up=dict(sorted(made.given_up.items())),
        rejected=dict(sorted(made.faults.items())),
        judge=find_judge(context.recipe, Path(context.data_dir)) or "",
    )
    return Outcome(
        tables={QUESTIONS: variants},
        counts=(counts,),
        costs=sum_call_costs("vary", made.spent),
        notes=notes.to_json(),
    )


def list_wishes(recipe: Recipe, questions: Iterable[Question]) -> Iterable[Wish]:
    """Yield every variant that the recipe wants: of selected questions, without controls."""
    principles: list[tuple[str, int]] = []
    if recipe.variants:
        principles += [(p, recipe.variants.count) for p in dict.fromkeys(recipe.variants.principles)]
    if recipe.augment:
        principles += [(f"{STYLE}{style}", 1) for style in dict.fromkeys(recipe.augment.styles)]
    for question in questions:
        if question.control != "none" or question.label not in SELECTED or question.variant_of is not None:
            continue
        for principle, count in principles:
            if applies(principle, question):
                yield from (Wish(question, principle, number) for number in range(count))


def applies(principle: str, question: Question) -> bool:
    """Return whether a principle fits a question. Texts that are word lists or scored are not reworded."""
    if principle in (PERMUTE, CHOICE):
        return len(question.options) > 1 and question.family not in WORD_LISTS
    return question.language == "en" and question.family not in (
        *WORD_LISTS,
        "perplexity_pair",
        "autocomplete",
    )


def model_for(recipe: Recipe, principle: str) -> str:
    """Return the model that rewords by a principle."""
    own = recipe.augment.model if principle.startswith(STYLE) and recipe.augment else None
    model = own or (recipe.variants.model if recipe.variants else None)
    assert model is not None, "the recipe names a model for every principle"
    return model


def find_judge(recipe: Recipe, data_dir: Path) -> str | None:
    """Return the first judge that is of another family than the models that reword, if there is one."""
    known = read_model_families(data_dir)
    used = frozenset(f for model in recipe.rewording_models for f in model_family(model, known))
    return next((j for j in recipe.models.judges if ":" in j and not used & model_family(j, known)), None)


def permuted(wish: Wish) -> Question:
    """Return the question with its options in the opposite order, under an id of its own."""
    turn = wish.number % max(1, len(wish.question.options))
    options = wish.question.options[::-1]
    return variant_of(wish, wish.question.template, options[turn:] + options[:turn])


def variant_of(wish: Wish, template: str, options: Sequence[Option]) -> Question:
    """Return a variant of a question, without twin and measurements."""
    question = wish.question
    return question.model_copy(
        update={
            "id": content_id(
                "q", question.id, wish.principle, wish.number, template, [o.text for o in options]
            ),
            "template": template,
            "variants": expand_template(template, question.values, [v.valence for v in question.variants]),
            "options": tuple(options),
            "twin_id": None,
            "variant_of": question.id,
            "principle": wish.principle,
            "composition": question.composition if question.family == "political" else None,
            "holdout_effect": None,
        }
    )


# Rewording with a model.


async def reword_all(context: RunContext, name: str, wishes: Sequence[Wish], made: Made) -> None:
    """Reword all wishes, up to `ATTEMPTS` times each, and add the variants that pass all checks."""
    data_dir = Path(context.data_dir)
    judge = find_judge(context.recipe, data_dir)
    tasks = read_tasks(data_dir)
    left = {w.tag: w for w in wishes}
    least = context.recipe.validation.min_judged
    async with open_model(name, ModelSettings.of(context)) as model:
        for attempt in range(ATTEMPTS):
            if not left:
                break
            answered = Yield(name, "rewordings")
            candidates: dict[str, Question] = {}
            texts = [w for w in left.values() if w.principle != CHOICE]
            choices = [w for w in left.values() if w.principle == CHOICE]
            prompt = read_prompt(data_dir, "vary_text")
            requests = [text_request(w, prompt, tasks, context, attempt) for w in texts]
            async for answer in ask_structured(model, requests, RewordedText):
                made.spent.append((name, answer.spent))
                answered.add_answer(answer)
                if isinstance(answer, Parsed):
                    wish = left[answer.tag.rpartition("#")[0]]
                    fault, template = read_wording(wish, answer.value.text)
                    if fault or template is None:
                        made.faults[fault or "no_text"] += 1
                    else:
                        candidates[wish.tag] = variant_of(wish, template, wish.question.options)
            prompt = read_prompt(data_dir, "vary_options")
            requests = [options_request(w, prompt, context, attempt) for w in choices]
            async for reworded in ask_structured(model, requests, RewordedOptions):
                made.spent.append((name, reworded.spent))
                answered.add_answer(reworded)
                if isinstance(reworded, Parsed):
                    wish = left[reworded.tag.rpartition("#")[0]]
                    options = read_options(wish.question.options, reworded.value.options)
                    if options is None:
                        made.faults["other_options"] += 1
                    else:
                        candidates[wish.tag] = variant_of(wish, wish.question.template, options)
            require_yield([answered], least)
            passed = await check_meaning(context, judge, left, candidates, made, attempt)
            made.variants += passed.values()
            left = {tag: w for tag, w in left.items() if tag not in passed}
    made.given_up.update(w.principle for w in left.values())


async def check_meaning(
    context: RunContext,
    judge: str | None,
    wishes: Mapping[str, Wish],
    candidates: Mapping[str, Question],
    made: Made,
    attempt: int,
) -> dict[str, Question]:
    """Return the candidates that the judge finds to mean the same. Without a judge, return all of them."""
    if judge is None or not candidates:
        return dict(candidates)
    prompt = read_prompt(Path(context.data_dir), "vary_check")
    requests = [
        Request(
            tag=f"{tag}#check{attempt}",
            messages=prompt.fill(
                original=fence(shown(wishes[tag].question), "original"),
                reworded=fence(shown(candidate), "reworded"),
            ),
            decoding=Decoding(max_tokens=context.recipe.judging.max_tokens, seed=derived_seed(tag, attempt)),
            stage="vary",
        )
        for tag, candidate in sorted(candidates.items())
    ]
    passed: dict[str, Question] = {}
    answered = Yield(judge, "comparisons")
    async with open_model(judge, ModelSettings.of(context)) as model:
        async for answer in ask_structured(model, requests, ComparedTexts):
            made.spent.append((judge, answer.spent))
            answered.add_answer(answer)
            tag = answer.tag.rpartition("#")[0]
            if isinstance(answer, Parsed) and answer.value.same:
                passed[tag] = candidates[tag]
            else:
                made.faults["other_meaning" if isinstance(answer, Parsed) else "not_judged"] += 1
    require_yield([answered], context.recipe.validation.min_judged)
    return passed


def text_request(
    wish: Wish, prompt: Prompt, tasks: Mapping[str, str], context: RunContext, attempt: int
) -> Request:
    """Return the request to reword the text of a question."""
    if wish.principle not in tasks:
        raise InputError(f"data/styles has no task for {wish.principle!r}", hint="add it under `tasks`")
    return Request(
        tag=f"{wish.tag}#{attempt}",
        messages=prompt.fill(text=fence(mask(wish.question.template), "text"), task=tasks[wish.principle]),
        decoding=_decoding(wish, context, attempt),
        stage="vary",
    )


def options_request(wish: Wish, prompt: Prompt, context: RunContext, attempt: int) -> Request:
    """Return the request to reword the options of a question."""
    listed = "\n".join(option.text for option in wish.question.options)
    return Request(
        tag=f"{wish.tag}#{attempt}",
        messages=prompt.fill(options=fence(listed, "options")),
        decoding=_decoding(wish, context, attempt),
        stage="vary",
    )


def _decoding(wish: Wish, context: RunContext, attempt: int) -> Decoding:
    return Decoding(
        max_tokens=context.recipe.evolve.max_tokens,
        temperature=1.0,
        seed=derived_seed(context.recipe.seed, "vary", wish.tag, attempt),
    )


def read_tasks(data_dir: Path) -> dict[str, str]:
    """Read the instructions to a model, by principle."""
    return dict(read_yaml(data_dir / "styles" / "en.yaml", RewordingTasks).tasks)


# Checks of a wording.


def mask(template: str) -> str:
    """Return a template with `[[1]]`, `[[2]]`, … in place of its slots."""
    number, parts = 0, []
    for part in parse_slots(template):
        if isinstance(part, Slot):
            number += 1
            parts.append(f"[[{number}]]")
        else:
            parts.append(part)
    return "".join(parts)


def shown(question: Question) -> str:
    """Return a question as the judge sees it: its text with marks, and its options."""
    return "\n".join([mask(question.template), *(option.text for option in question.options)])


def read_wording(wish: Wish, text: str) -> tuple[str | None, str | None]:
    """Return the rule that a wording breaks, or the template that it gives."""
    original, wording = mask(wish.question.template), " ".join(text.split())
    slots = [part for part in parse_slots(wish.question.template) if isinstance(part, Slot)]
    growth = MAX_GROWTH.get(wish.principle, OTHER_GROWTH)
    marks = [int(number) for number in _MARK.findall(wording)]
    without_marks = _MARK.sub("", wording)
    rules = (
        ("empty", not wording),
        ("lost_its_slots", marks != list(range(1, len(slots) + 1))),
        ("holds_braces", "{" in wording or "}" in wording),
        ("repeats", normalise_for_match(wording) == normalise_for_match(original)),
        (
            "other_numbers",
            not set(_FIXED.findall(_MARK.sub("", original))) <= set(_FIXED.findall(without_marks)),
        ),
        ("other_labels", _LABEL.findall(original) != _LABEL.findall(wording)),
        ("other_length", not len(original) / 2.5 <= len(wording) <= growth * len(original) + 40),
        ("asks_nothing", original.rstrip().endswith("?") and not wording.rstrip().rstrip('"”').endswith("?")),
    )
    fault = next((name for name, broken in rules if broken), None)
    if fault:
        return fault, None
    template = _MARK.sub(lambda m: str(slots[int(m.group(1)) - 1]), wording)
    variants = expand_template(template, wish.question.values)
    if wish.principle not in ROUGH_STYLES:
        fault = next((f for v in variants if (f := fluency_fault(v.text, wish.question.language))), None)
        usual = {fluency_fault(v.text, wish.question.language) for v in wish.question.variants}
        if fault and fault not in usual:
            return fault, None
    return None, template


def read_options(options: Sequence[Option], texts: Sequence[str]) -> tuple[Option, ...] | None:
    """Return the options with other texts, or `None` if they are not as many or not distinct."""
    plain = [" ".join(text.split()) for text in texts]
    distinct = {normalise_for_match(text) for text in plain}
    if len(plain) != len(options) or len(distinct) != len(options) or not all(plain):
        return None
    if all(a == b.text for a, b in zip(plain, options, strict=True)):
        return None
    return tuple(o.model_copy(update={"text": t}) for o, t in zip(options, plain, strict=True))


STAGE = Stage(
    "vary",
    2,
    run=vary,
    reads=("variants", "augment", "models", "judging", "validation", "evolve"),
    vocabulary=("prompts", "styles", "model_families.yaml"),
)
