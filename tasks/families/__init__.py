"""A family: how its questions are made, shown, read and measured. Each has a module here with a `METHOD`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from schemas.answers import PLAIN, Effect, Phase, Response
from schemas.errors import InputError
from schemas.question import Question
from schemas.recipe import FAMILIES, Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.models.prompts import Prompt, read_prompt
from tasks.models.protocol import Decoding, Message, Request, response_tag

if TYPE_CHECKING:
    from tasks.families.effects import Slice
    from tasks.questions.composition import DraftPair


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
"""A metric's own names, each with `value`, `low`, `high`, `n` (see `tasks.families.effects.figure`)."""


@dataclass(frozen=True)
class Method:
    """What is a family's own; everything has a default but its form and its metric."""

    family: str
    form: Form
    effects: Effects
    """Effects of one slice: all answers that fall into it, of one model and one condition."""
    pairs: Callable[[Recipe, Path, Family, Sequence[Attribute]], list[DraftPair]] | None = None
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


# Families by name, each imported when it is first asked for.


@cache
def method_of(family: str) -> Method:
    """The method of a templated family. Raises `InputError` for a name that is none."""
    if family not in FAMILIES or family == "open":
        known = ", ".join(f for f in FAMILIES if f != "open")
        raise InputError(f"there is no templated family {family!r}", hint=f"there are: {known}")
    method: Method = import_module(f"tasks.families.{family}").METHOD
    return method


# What a model is shown for one variant: free questions as they are, others in their family's ways.


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
