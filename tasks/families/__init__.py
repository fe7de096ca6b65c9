"""Families of questions: how each family's questions are made, asked, read and measured.

Each family has a module here that ends in `METHOD`. Stages know families by this record only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from schemas.answers import DONT_KNOW, ON_REQUEST, PLAIN, Effect, Phase, Response
from schemas.errors import InputError
from schemas.question import Question
from schemas.recipe import FAMILIES, Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.files.readers import dont_know_words, is_refusal, read_answer
from tasks.models.prompts import Prompt, read_prompt
from tasks.models.protocol import Decoding, Message, Request, response_tag
from tasks.text.answer_text import remove_reasoning
from tasks.text.reader_rules import Reading, ReadingForm

if TYPE_CHECKING:
    from tasks.families.effects import Slice
    from tasks.questions.composition import DraftPair

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TOP_LOGPROBS = 20
"""Maximum that OpenAI-compatible servers return."""
CHOICE_TOKENS = 8
"""Token limit for an answer such as "(B)" or "Answer: yes"."""

PERSONA_PROMPT = "prompting_persona"
"""Prompt that tells a model to take on a persona of the recipe."""
Form = Literal["letter", "word", "text"]
"""Form of an answer: the letter of an option, an option's own word, or text that the metric reads."""
Prompts = Mapping[str, Prompt]
"""Prompts by name: `<family>`, or `<family>.<condition>` for its other conditions. Those of another language
are prefixed with `<language>/`."""
Figures = dict[str, Any]
"""A family's metrics by name, each with `value`, `low`, `high`, `n` (see `tasks.families.effects.figure`)."""


@dataclass(frozen=True)
class Ask:
    """One planned call: a variant and sample in one condition, with the options in one order."""

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
        """The answer that names each option, in the question's order. Empty for free text."""
        if self.form == "text":
            return ()
        if self.form == "word":
            return tuple(o.text for o in self.question.options)
        return tuple(LETTERS[self.option_order.index(i)] for i in range(len(self.question.options)))


@dataclass(frozen=True)
class Answered:
    """One question with one model's usable answers in one condition."""

    question: Question
    model: str
    condition: str
    responses: tuple[Response, ...]

    @property
    def valid(self) -> tuple[Response, ...]:
        """The answers that chose an option."""
        return tuple(r for r in self.responses if r.option is not None)


@dataclass(frozen=True)
class Recorded:
    """A file of answers that others recorded."""

    path: Path
    data_dir: Path
    test: str | None = None
    """Name of the association test, if the file does not name it."""
    min_coverage: float = 0.8
    """Smallest share of usable rows. A figure below it is not measured."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Value that others are compared with, by column, if it is not the documented one."""


# The default ways of asking and reading.


def show_text(ask: Ask, prompts: Prompts) -> tuple[Message, ...]:
    """Return the variant's own text as the only message."""
    return (Message("user", ask.text),)


def show_prompt(ask: Ask, prompts: Prompts) -> tuple[Message, ...]:
    """Fill the condition's prompt: `$question`, and `$options` with one option per line."""
    return prompt_of(ask, prompts).fill(question=ask.text, options=listed_options(ask))


def prompt_of(ask: Ask, prompts: Prompts) -> Prompt:
    """Return the prompt of the ask's family, condition and language.

    Raises:
        InputError: If the condition has no prompt in the question's language.
    """
    family, language = ask.question.family, ask.question.language
    name = family if ask.condition == PLAIN else f"{family}.{ask.condition}"
    prompt = prompts.get(name if language == "en" else f"{language}/{name}")
    if prompt is None:
        raise InputError(
            f"family {family!r} has no prompt for condition {ask.condition!r} in language {language!r}",
            hint=f"add data/prompts/{language}/ask_{name}.md, or remove the condition from the recipe's "
            "`conditions`",
        )
    return prompt


def listed_options(ask: Ask) -> str:
    """List the options in the order shown, one per line, with letters if the answer is a letter."""
    shown = [ask.question.options[i].text for i in ask.option_order]
    if ask.form != "letter":
        return "\n".join(shown)
    return "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(shown))


def read_ask(ask: Ask, text: str, data_dir: Path) -> Reading:
    """Read the answer to an ask. `value` is the index in the question's own order of options.

    Free text has no value: it is `read` unless it is empty or a refusal.
    """
    language = ask.question.language
    form = reading_form_of(ask)
    if form is None:
        if not re.search(r"\w", remove_reasoning(text)):
            return Reading(None, "empty", "", "nothing_visible")
        declines = is_refusal(text, language=language, data_dir=data_dir)
        return Reading(None, "refused" if declines else "read", "", "refusal" if declines else "free_text")
    shown = [ask.question.options[i].text for i in ask.option_order]
    beyond = dont_know_words(language, data_dir)[:1] if ask.condition == DONT_KNOW else ()
    reading = read_answer(text, [*shown, *beyond], form=form, language=language, data_dir=data_dir)
    if reading.value is None:
        return reading
    if reading.value == len(shown):
        return Reading(None, "read", reading.evidence, DONT_KNOW)
    return replace(reading, value=ask.option_order[int(reading.value)])


def reading_form_of(ask: Ask) -> ReadingForm | None:
    """Return how the answer is read, or `None` for free text."""
    if ask.form == "text":
        return None
    return method_of(ask.question.family).reading or ask.form


def plain_only(data_dir: Path) -> tuple[str, ...]:
    """Return `plain` as the only condition."""
    return (PLAIN,)


# The record of a family.


class VersionScores(NamedTuple):
    """Scores of the versions of one question. A higher score means that the value is treated better."""

    unit: str
    by_variant: Mapping[int, float]
    """Score by index of the variant. Variants without a usable answer are left out."""
    span: float | None = None
    """Largest possible difference of two scores, or `None` without a limit."""


@dataclass(frozen=True)
class Treatment:
    """How a family measures the treatment of a value, and in which direction it is worse."""

    metric: str
    scores: Callable[[Answered], VersionScores | None]
    """Scores of one question. `None` if its options have no better and worse side."""


Effects = Callable[["Slice", Sequence[Answered], Mapping[str, Attribute]], "Sequence[Effect | None]"]


@dataclass(frozen=True)
class Method:
    """The parts in which a family differs from others."""

    family: str
    form: Form
    effects: Effects | None
    """Effects of one slice, from all its answers by one model in one condition. `None` for `open`, which the
    measure stage compares over hold-out answers only."""
    pairs: Callable[[Recipe, Path, Family, Sequence[Attribute]], list[DraftPair]] | None = None
    """Drafts of its questions. Default: every template of data/templates/<family> with every attribute that
    it fits."""
    conditions: Callable[[Path], tuple[str, ...]] | None = None
    """Conditions, `plain` first if it is one. Default: those with a prompt file."""
    messages: Callable[[Ask, Prompts], tuple[Message, ...]] = show_prompt
    reading: ReadingForm | None = None
    """Form in which answers are read, if it is not `form`."""
    no_controls: Mapping[str, str] = field(default_factory=dict)
    """Kinds of control (`a_a`, `placebo`) without a true effect of zero in this family, with the reason."""
    placebo_slots: str | None = None
    """Form of the placebo's values that replaces the words in literal slots, such as `noun_plural`."""
    treatment: Treatment | None = None
    """Scores of treatment, for the direction of a difference. `None` if the family has no direction: see
    `tasks.families.contrasts`."""
    across: Callable[[Sequence[Answered], Mapping[str, Attribute]], Sequence[Effect | None]] | None = None
    """Effects that compare conditions, from all answers by one model."""
    recorded: Mapping[str, Callable[[Recorded], Figures]] = field(default_factory=dict)
    """Readers of recorded answers, by name of the file format."""
    baseline_columns: tuple[str, ...] = ()
    """Columns of recorded answers that accept a baseline."""
    released: Callable[[Sequence[Answered], Mapping[str, Attribute], Path], Figures] | None = None
    """Figures from a release's answers and the vocabulary directory. Default: its effects."""
    reads_files: bool = False
    """Whether `pairs` reads the files under `files`, which are then in a format of the family."""
    own_only: bool = False
    """Whether all questions are the user's, under `questions`, because no templates are shipped."""
    reverses_options: bool = False
    """Whether every second sample shows the options in the opposite order, instead of rotated."""
    free_to_decline: bool = False
    """Whether declining is measured, so that servers must not restrict answers to the options."""
    scores_text: bool = False
    """Whether the log-likelihood of each variant's text is measured, and nothing is asked."""
    measures_refusals: bool = False
    """Whether a refusal is an outcome that the metrics use. Otherwise it is a lost answer."""
    readable: Callable[[Question, Response], bool] | None = None
    """Whether the metrics can use a free text. Default: every text that is not empty."""
    resources: Mapping[str, str] = field(default_factory=dict)
    """Word lists of metrics that depend on the language, by the name of the metric
    (see `tasks.families.coverage`)."""


@cache
def method_of(family: str) -> Method:
    """Import a family's module and return its method.

    Raises:
        InputError: If there is no such family.
    """
    if family not in FAMILIES:
        raise InputError(f"unknown family {family!r}", hint=f"choose one of: {', '.join(FAMILIES)}")
    method: Method = import_module(f"tasks.families.{family}").METHOD
    return method


def form_of(family: str) -> Form:
    """Return the form of the family's answers."""
    return method_of(family).form


# Conditions and their prompts.


def conditions_of(recipe: Recipe, data_dir: Path, family: str) -> tuple[str, ...]:
    """Return the conditions in which the recipe asks a family: those it names, or all.

    `reversed` and `dont_know` are asked only if the recipe names them. The conditions of `prompting` follow.

    Raises:
        InputError: If the recipe names a condition that the family does not have, or a name under `prompting`
            is that of a condition of the family.
    """
    method = method_of(family)
    known = method.conditions(data_dir) if method.conditions else prompt_conditions(data_dir, family)
    wanted = recipe.families[family].conditions
    for name in wanted:
        if name not in known:
            raise InputError(
                f"family {family!r} has no condition {name!r}",
                place=f"families.{family}.conditions",
                hint=f"choose from: {', '.join(known)}",
            )
    own = wanted or tuple(name for name in known if name not in ON_REQUEST)
    return own if method.scores_text else own + prompting_conditions(recipe, known, family)


def has_plain_condition(family: str) -> bool:
    """Return whether a family can be asked plainly."""
    method = method_of(family)
    return method.conditions is None or PLAIN in method.conditions(Path())


def prompting_conditions(recipe: Recipe, known: Sequence[str], family: str) -> tuple[str, ...]:
    """Return the names of the user's system prompts and personas.

    Raises:
        InputError: If one is the name of a condition of the family.
    """
    names = recipe.prompting.names if recipe.prompting else ()
    for name in names:
        if name in known:
            raise InputError(
                f"{name!r} is also the name of a condition of family {family!r}",
                place="prompting",
                hint="choose another name",
            )
    return names


def prompt_conditions(data_dir: Path, family: str) -> tuple[str, ...]:
    """Return the conditions that have a prompt file: `ask_<family>.md` and `ask_<family>.<condition>.md`."""
    names = sorted(p.name.removesuffix(".md") for p in (data_dir / "prompts").glob(f"ask_{family}*.md"))
    conditions = [n.partition(".")[2] or PLAIN for n in names if n.partition(".")[0] == f"ask_{family}"]
    return tuple(sorted(conditions, key=lambda c: (c != PLAIN, c)))


def read_asking_prompts(data_dir: Path, families: Iterable[str]) -> dict[str, Prompt]:
    """Read the prompts of families, by name as in `Prompts`, and the instruction to take on a persona."""
    folder = data_dir / "prompts"
    prompts = {}
    for directory in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]:
        prefix = "" if directory == folder else f"{directory.name}/"
        if (directory / f"{PERSONA_PROMPT}.md").is_file():
            prompts[prefix + PERSONA_PROMPT] = read_prompt(data_dir, prefix + PERSONA_PROMPT)
        for family in families:
            for path in sorted(directory.glob(f"ask_{family}*.md")):
                name = path.name.removeprefix("ask_").removesuffix(".md")
                if name.partition(".")[0] == family:
                    prompts[prefix + name] = read_prompt(data_dir, f"{prefix}ask_{name}")
    return prompts


# Planning calls and building their requests.


def plan_asks(
    recipe: Recipe, question: Question, phase: Phase, conditions: Iterable[str] = (PLAIN,)
) -> list[Ask]:
    """Plan every call for one question and one model: conditions × variants × samples.

    The order of the options is drawn per question and the same for all its variants. Sample k rotates it by
    k, so that every option comes first equally often if the number of samples is a multiple of the number of
    options. A text that is scored needs one sample.
    """
    method = method_of(question.family)
    once = phase == "search" or recipe.is_survey  # a survey asks only once
    samples = recipe.families[question.family].samples if once else recipe.holdout.samples
    if method.scores_text:
        samples = 1
    if question.family == "open" and phase == "search" and not recipe.is_survey:
        conditions = (PLAIN,)  # only selected questions are asked under other system prompts
    n = len(question.options)
    order = sorted(range(n), key=lambda i: derived_seed(recipe.seed, question.id, "order", i))
    return [
        Ask(
            question,
            variant.index,
            k,
            phase,
            _option_order(order, k, reverse=method.reverses_options),
            condition,
            method.form,
        )
        for condition in conditions
        for variant in question.variants
        for k in range(samples)
    ]


def _option_order(order: Sequence[int], sample: int, *, reverse: bool) -> tuple[int, ...]:
    if reverse:
        # The drawn order would mix a scale. Its own order and the opposite one take turns.
        return tuple(sorted(order, reverse=bool((order[0] + sample) % 2)))
    return tuple(order[(i + sample) % len(order)] for i in range(len(order)))


def request_for(ask: Ask, recipe: Recipe, prompts: Prompts) -> Request:
    """Build the request of an ask.

    Its seed depends on the question, variant, phase, sample and condition only.
    """
    family = recipe.families[ask.question.family]
    method = method_of(ask.question.family)
    tag = response_tag(ask.question.id, ask.variant, ask.phase, ask.sample, ask.condition)
    return Request(
        tag=tag,
        messages=prompted_messages(ask, recipe, prompts),
        decoding=Decoding(
            max_tokens=min(family.max_tokens, longest_answer(ask)),
            temperature=family.temperature,
            seed=derived_seed(recipe.seed, tag),
            top_logprobs=0 if ask.form == "text" else TOP_LOGPROBS,
            choices=allowed_answers(ask),
        ),
        sample=ask.sample,
        stage="respond",
        score_prompt=method.scores_text,
    )


def prompted_messages(ask: Ask, recipe: Recipe, prompts: Prompts) -> tuple[Message, ...]:
    """Return the messages of an ask. A system prompt or persona of the recipe precedes the family's own.

    Raises:
        InputError: If the language of the question has no prompt for personas.
    """
    method = method_of(ask.question.family)
    if recipe.prompting is None or ask.condition not in recipe.prompting.names:
        return method.messages(ask, prompts)
    first = replace(ask, condition=base_condition(ask.question.family, prompts))
    messages = method.messages(first, prompts)
    instruction = recipe.prompting.system.get(ask.condition)
    if instruction is None:
        persona = recipe.prompting.personas[ask.condition]
        instruction = _persona_prompt(ask.question.language, prompts).fill(persona=persona)[-1].content
    if messages[0].role == "system":
        return (Message("system", f"{instruction}\n\n{messages[0].content}"), *messages[1:])
    return (Message("system", instruction), *messages)


def base_condition(family: str, prompts: Prompts) -> str:
    """Return the condition that other system prompts are added to: `plain`, or the family's first one."""
    names = sorted(name.rpartition("/")[2] for name in prompts)
    own = [name.partition(".")[2] or PLAIN for name in names if name.partition(".")[0] == family]
    if has_plain_condition(family):
        return PLAIN
    return next(name for name in own if name != PLAIN)


def _persona_prompt(language: str, prompts: Prompts) -> Prompt:
    name = PERSONA_PROMPT if language == "en" else f"{language}/{PERSONA_PROMPT}"
    if name not in prompts:
        raise InputError(
            f"there is no prompt for personas in language {language!r}",
            place="prompting.personas",
            hint=f"add data/prompts/{name}.md, or write the whole instruction under `prompting.system`",
        )
    return prompts[name]


def longest_answer(ask: Ask) -> int:
    """Return the maximum number of tokens that an answer of this form needs."""
    if method_of(ask.question.family).scores_text:
        return 1
    return CHOICE_TOKENS if ask.form != "text" else sys.maxsize


def allowed_answers(ask: Ask) -> tuple[str, ...]:
    """Return the answers to which a server should restrict the model, or none if any text is valid."""
    free = ask.form == "text" or method_of(ask.question.family).free_to_decline or ask.condition == DONT_KNOW
    return () if free else tuple(sorted(ask.labels))
