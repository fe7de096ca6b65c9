"""A family: how its questions are made, shown, read and measured. Each has a module here with a `METHOD`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from schemas.attribute import Attribute
from schemas.effect import Effect
from schemas.errors import InputError
from schemas.question import Question
from schemas.recipe import Family, Recipe
from schemas.response import PLAIN, Phase, Response
from tasks.models.protocol import Message
from tasks.text.prompts import Prompt

if TYPE_CHECKING:
    from tasks.measuring.effects import Slice
    from tasks.text.expansion import Pair

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Form = Literal["letter", "word", "text"]
"""What an answer is: the letter of an option, an option's own word, or text that the metric reads."""
Prompts = Mapping[str, Prompt]
"""Prompts by name: the family's, and `<family>.<condition>` for its other ways of asking; those of another
language with `<language>/` before it."""


@dataclass(frozen=True)
class Ask:
    """One call to be made: for which variant, which sample, in which way, with the options in which order."""

    question: Question
    variant: int
    sample: int
    phase: Phase
    option_order: tuple[int, ...]
    condition: str = PLAIN
    form: Form = "text"

    @property
    def text(self) -> str:
        """The variant's own text."""
        return self.question.variants[self.variant].text

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model is asked to say for each option, in the question's order; none for free text."""
        if self.form == "text":
            return ()
        if self.form == "word":
            return tuple(o.text for o in self.question.options)
        return tuple(LETTERS[self.option_order.index(i)] for i in range(len(self.question.options)))


@dataclass(frozen=True)
class Answered:
    """One question with one model's usable answers to one way of asking it."""

    question: Question
    model: str
    condition: str
    responses: tuple[Response, ...]

    @property
    def valid(self) -> tuple[Response, ...]:
        """Answers that chose an option."""
        return tuple(r for r in self.responses if r.option is not None)


@dataclass(frozen=True)
class Recorded:
    """Answers that others recorded: a file, and what it does not say itself."""

    path: Path
    data_dir: Path
    test: str | None = None


def show_prompt(ask: Ask, prompts: Prompts) -> tuple[Message, ...]:
    """The prompt of the ask's condition, with `$question` and, one a line, `$options`."""
    return prompt_of(ask, prompts).fill(question=ask.text, options=listed_options(ask))


def prompt_of(ask: Ask, prompts: Prompts) -> Prompt:
    """The prompt of the ask's family and condition, in the question's language."""
    family, language = ask.question.family, ask.question.language
    name = family if ask.condition == PLAIN else f"{family}.{ask.condition}"
    found = prompts.get(name if language == "en" else f"{language}/{name}")
    if found is None:
        raise InputError(
            f"family {family!r} has no prompt for the way {ask.condition!r} in {language!r}",
            hint=f"add data/prompts/{language}/ask_{name}.md, or leave that way out of the recipe's "
            "`conditions`",
        )
    return found


def listed_options(ask: Ask) -> str:
    """The options in the order shown, one a line: with letters where letters are asked for."""
    shown = [ask.question.options[i].text for i in ask.option_order]
    if ask.form != "letter":
        return "\n".join(shown)
    return "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(shown))


def chosen_option(ask: Ask, answer: str) -> int | None:
    """Index of the option that a text answer names: by its label at the start, or its words; else `None`."""
    said = plain(answer)
    if not said:
        return None
    options = [plain(o.text) for o in ask.question.options]
    if ask.form == "letter":
        letter = re.match(r"^(?:answer |option )?([a-z])\b", said)
        if letter and letter.group(1).upper() in ask.labels:
            return ask.labels.index(letter.group(1).upper())
    elif (first := said.split()[0]) in options:
        return options.index(first)
    named = [i for i, option in enumerate(options) if re.search(rf"\b{re.escape(option)}\b", said)]
    return named[0] if len(named) == 1 else None


def plain(text: str) -> str:
    """Lower case, marks as spaces, trimmed: how recorded answers and options are compared."""
    return " ".join(re.sub(r"[^\w\s'-]", " ", text.lower()).split())


Effects = Callable[["Slice", Sequence[Answered], Mapping[str, Attribute]], "Sequence[Effect | None]"]
Figures = dict[str, Any]
"""A metric's own names, each with `value`, `low`, `high`, `n` (see `tasks.measuring.metrics.figure`)."""


@dataclass(frozen=True)
class Method:
    """What is a family's own; everything has a default but its form and its metric."""

    family: str
    form: Form
    effects: Effects
    """Effects of one slice: all answers that fall into it, of one model and one condition."""
    pairs: Callable[[Recipe, Path, Family, Sequence[Attribute]], list[Pair]] | None = None
    """What is asked; default: every template of data/templates/<family> with every attribute it fits."""
    conditions: Callable[[Path], tuple[str, ...]] | None = None
    """Ways of asking, `plain` first where there is one; default: the family's prompt files."""
    messages: Callable[[Ask, Prompts], tuple[Message, ...]] = show_prompt
    read: Callable[[Ask, str], int | None] = chosen_option
    """The option that a text answer means; only for the forms `letter` and `word`."""
    across: Callable[[Sequence[Answered], Mapping[str, Attribute]], Sequence[Effect | None]] | None = None
    """Effects that compare conditions, over all answers of one model."""
    recorded: Mapping[str, Callable[[Recorded], Figures]] = field(default_factory=dict)
    """Readers of recorded answers, by the name of their format."""
    released: Callable[[Sequence[Answered], Mapping[str, Attribute]], Figures] | None = None
    """The same figures from a release's own answers; default: its effects."""
    free_to_decline: bool = False
    """Whether declining is part of what is measured, so that no server is told to allow options only."""
    scores_text: bool = False
    """Whether nothing is asked: how likely each variant's own text is, is all that is measured."""
