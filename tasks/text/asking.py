"""What a model is shown for one variant: free questions as they are, forced choices with their options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from schemas.ids import derived_seed
from schemas.question import Question
from schemas.recipe import Recipe
from schemas.response import Phase
from tasks.models.protocol import Decoding, Message, Request, response_tag
from tasks.text.prompts import Prompt, read_prompt

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TOP_LOGPROBS = 20
"""The most that OpenAI-compatible servers return."""
CHOICE_TOKENS = 8
"""Room for an answer such as "(B)" or "Answer: yes"."""


@dataclass(frozen=True)
class Ask:
    """One call to be made: for which variant, which sample, with the options in which order."""

    question: Question
    variant: int
    sample: int
    phase: Phase
    option_order: tuple[int, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model is asked to say for each option, in the question's order."""
        if is_yes_no(self.question):
            return tuple(o.text for o in self.question.options)
        return tuple(LETTERS[self.option_order.index(i)] for i in range(len(self.question.options)))


def is_yes_no(question: Question) -> bool:
    """Whether the options are words that a model says by itself, so that no letters are needed."""
    return {o.text.lower() for o in question.options} == {"yes", "no"}


def plan_asks(recipe: Recipe, question: Question, phase: Phase) -> list[Ask]:
    """Every call for one question and one model: variants × samples.

    Sample k of a forced choice shows the options rotated by k from an order drawn for the question, the same
    for all its variants, so that over as many samples as there are options every option has been first.
    """
    samples = recipe.families[question.family].samples if phase == "search" else recipe.holdout.samples
    n = len(question.options)
    order = sorted(range(n), key=lambda i: derived_seed(recipe.seed, question.id, "order", i))
    return [
        Ask(question, variant.index, k, phase, tuple(order[(i + k) % n] for i in range(n)))
        for variant in question.variants
        for k in range(samples)
    ]


def request_for(ask: Ask, recipe: Recipe, prompts: dict[str, Prompt]) -> Request:
    """The request of an ask; its seed depends on the question, variant, phase and sample only."""
    family = recipe.families[ask.question.family]
    choice = bool(ask.question.options)
    parts = (ask.question.id, ask.variant, ask.phase, ask.sample)
    return Request(
        tag=response_tag(*parts),
        messages=_messages(ask, prompts),
        decoding=Decoding(
            max_tokens=min(family.max_tokens, CHOICE_TOKENS) if choice else family.max_tokens,
            temperature=family.temperature,
            seed=derived_seed(recipe.seed, *parts),
            top_logprobs=TOP_LOGPROBS if choice else 0,
        ),
        sample=ask.sample,
        stage="respond",
    )


def read_asking_prompts(data_dir: Path, families: tuple[str, ...]) -> dict[str, Prompt]:
    """The prompt of every forced-choice family; family `open` shows the question as it is."""
    return {family: read_prompt(data_dir, f"ask_{family}") for family in families if family != "open"}


def _messages(ask: Ask, prompts: dict[str, Prompt]) -> tuple[Message, ...]:
    text = ask.question.variants[ask.variant].text
    if not ask.question.options:
        return (Message("user", text),)
    shown = [ask.question.options[i].text for i in ask.option_order]
    options = "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(shown))
    return prompts[ask.question.family].fill(question=text, options=options)


def chosen_option(ask: Ask, answer: str) -> int | None:
    """Index of the option that a text answer names: by its label at the start, or its words; else `None`."""
    said = _plain(answer)
    if not said:
        return None
    if is_yes_no(ask.question):
        first = said.split()[0]
        return next((i for i, o in enumerate(ask.question.options) if _plain(o.text) == first), None)
    letter = re.match(r"^(?:answer |option )?([a-z])\b", said)
    if letter and letter.group(1).upper() in ask.labels:
        return ask.labels.index(letter.group(1).upper())
    named = [
        i for i, o in enumerate(ask.question.options) if re.search(rf"\b{re.escape(_plain(o.text))}\b", said)
    ]
    return named[0] if len(named) == 1 else None


def _plain(text: str) -> str:
    """Lower case, marks as spaces, trimmed: how recorded answers and options are compared."""
    return " ".join(re.sub(r"[^\w\s'-]", " ", text.lower()).split())
