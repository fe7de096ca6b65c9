"""What a model is shown for one variant: free questions as they are, others in their family's ways."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from schemas.errors import InputError
from schemas.ids import derived_seed
from schemas.question import Question
from schemas.recipe import Recipe
from schemas.response import PLAIN, Phase
from tasks.families.method import Ask, Form, Prompts
from tasks.families.registry import method_of
from tasks.models.protocol import Decoding, Message, Request, response_tag
from tasks.text.prompts import Prompt, read_prompt

TOP_LOGPROBS = 20
"""The most that OpenAI-compatible servers return."""
CHOICE_TOKENS = 8
"""Room for an answer such as "(B)" or "Answer: yes"."""


def form_of(family: str) -> Form:
    """How the family's answers look; advice is free text."""
    return "text" if family == "open" else method_of(family).form


def scores_text(family: str) -> bool:
    """Whether the family's texts are scored and not answered."""
    return family != "open" and method_of(family).scores_text


def conditions_of(recipe: Recipe, data_dir: Path, family: str) -> tuple[str, ...]:
    """In which ways the recipe has the family asked. Raises `InputError` for one that the family lacks."""
    if family == "open":
        return (PLAIN,)
    method = method_of(family)
    known = method.conditions(data_dir) if method.conditions else prompt_conditions(data_dir, family)
    wanted = recipe.families[family].conditions
    for name in wanted:
        if name not in known:
            raise InputError(
                f"family {family!r} cannot be asked in the way {name!r}",
                place=f"families.{family}.conditions",
                hint=f"there are: {', '.join(known)}",
            )
    return wanted or known


def prompt_conditions(data_dir: Path, family: str) -> tuple[str, ...]:
    """The ways for which there is a prompt file: `ask_<family>.md`, `ask_<family>.<condition>.md`."""
    names = sorted(p.name.removesuffix(".md") for p in (data_dir / "prompts").glob(f"ask_{family}*.md"))
    conditions = [n.partition(".")[2] or PLAIN for n in names if n.partition(".")[0] == f"ask_{family}"]
    return tuple(sorted(conditions, key=lambda c: (c != PLAIN, c)))


def read_asking_prompts(data_dir: Path, families: Iterable[str]) -> dict[str, Prompt]:
    """The prompts of families by name: `<family>`, `<family>.<condition>`, and with `<language>/` before it
    those of a language that has a folder of its own in data/prompts."""
    folder = data_dir / "prompts"
    prompts = {}
    for place in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]:
        before = "" if place == folder else f"{place.name}/"
        for family in families:
            for path in sorted(place.glob(f"ask_{family}*.md")):
                name = path.name.removeprefix("ask_").removesuffix(".md")
                if name.partition(".")[0] == family:
                    prompts[before + name] = read_prompt(data_dir, f"{before}ask_{name}")
    return prompts


def plan_asks(
    recipe: Recipe, question: Question, phase: Phase, conditions: Iterable[str] = (PLAIN,)
) -> list[Ask]:
    """Every call for one question and one model: conditions × variants × samples.

    Sample k shows the options rotated by k from an order drawn for the question, the same for all its
    variants, so that over as many samples as there are options every option has been first. A text that is
    scored has one score.
    """
    samples = recipe.families[question.family].samples if phase == "search" else recipe.holdout.samples
    if scores_text(question.family):
        samples = 1
    n = len(question.options)
    order = sorted(range(n), key=lambda i: derived_seed(recipe.seed, question.id, "order", i))
    form = form_of(question.family)
    return [
        Ask(
            question,
            variant.index,
            k,
            phase,
            tuple(order[(i + k) % n] for i in range(n)),
            condition,
            form,
        )
        for condition in conditions
        for variant in question.variants
        for k in range(samples)
    ]


def request_for(ask: Ask, recipe: Recipe, prompts: Prompts) -> Request:
    """The request of an ask; its seed depends on question, variant, phase, sample and condition only."""
    family = recipe.families[ask.question.family]
    choice = ask.form != "text"
    tag = response_tag(ask.question.id, ask.variant, ask.phase, ask.sample, ask.condition)
    return Request(
        tag=tag,
        messages=messages_of(ask, prompts),
        decoding=Decoding(
            max_tokens=min(family.max_tokens, longest_answer(ask)),
            temperature=family.temperature,
            seed=derived_seed(recipe.seed, tag),
            top_logprobs=TOP_LOGPROBS if choice else 0,
            choices=choices_of(ask),
        ),
        sample=ask.sample,
        stage="respond",
        score_prompt=scores_text(ask.question.family),
    )


def longest_answer(ask: Ask) -> int:
    """Tokens that an answer of this form needs at most."""
    if scores_text(ask.question.family):
        return 1
    return CHOICE_TOKENS if ask.form != "text" else sys.maxsize


def choices_of(ask: Ask) -> tuple[str, ...]:
    """What the answer is held to, where the server can; nothing where declining is an answer as well."""
    free = ask.form == "text" or method_of(ask.question.family).free_to_decline
    return () if free else tuple(sorted(ask.labels))


def messages_of(ask: Ask, prompts: Prompts) -> tuple[Message, ...]:
    """Advice questions, and texts that are scored, as they are; others as their family shows them."""
    if ask.question.family == "open" or scores_text(ask.question.family):
        return (Message("user", ask.text),)
    return method_of(ask.question.family).messages(ask, prompts)


def read_answer(ask: Ask, text: str) -> int | None:
    """The option that a text answer means; `None` where it means none, or where answers are free text."""
    return None if ask.form == "text" else method_of(ask.question.family).read(ask, text)
