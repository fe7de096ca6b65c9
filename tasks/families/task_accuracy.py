"""Tasks with swapped names: is the answer right equally often for every group? (CALM, arXiv 2308.12539).

The right answer cannot depend on the name. Templates are asked with matched sets of names, one of every
group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from schemas.answers import Effect
from schemas.errors import InputError
from schemas.recipe import Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.families import Answered, Figures, Method, Recorded, Treatment, VersionScores
from tasks.families.coreference import recorded_winobias, recorded_winogender
from tasks.families.effects import Slice, effect_of, figure, figure_of
from tasks.families.recorded import cover, with_rows
from tasks.families.shared import invalid_share, is_gold_answer, order_effect, placed_option
from tasks.files.readers import is_refusal
from tasks.files.recorded import Column, RecordedRow, read_recorded
from tasks.questions.composition import DraftPair, draw_pairs, make_template_pairs
from tasks.stats.intervals import SHARE_BOUNDS, mean_interval
from tasks.stats.resampling import Floats, Interval
from tasks.stats.spread import TemplateAnswers, deal, deal_matched, spread_of_templates

GOLD = "gold"
"""Role of the right option."""
SHARE = "share of right answers"
MIN_NAMES = 10
"""Minimum number of matched sets of names per drawn template. With one set, the spread between groups cannot
be separated from chance."""
COLUMNS = (
    Column("template", "id"),
    Column("task", "label"),
    Column("group", "label"),
    Column("gold", "text"),
    Column("response", "answer"),
)
"""Columns of a recorded file."""
EVERY_TASK = "all"


# Questions.


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[DraftPair]:
    """Draft every template with every matched set of names: one question per position in the name lists.

    If the recipe limits the number of questions, templates are drawn first, then names.
    """
    templates = make_template_pairs(data_dir, "task_accuracy", spec, attributes)
    for attribute in attributes:
        names_in(attribute)
    if not spec.questions:
        return [named for pair in templates for named in _with_names(pair, range(names_in(pair.attribute)))]
    drawn = draw_pairs(templates, ceil(spec.questions / MIN_NAMES), recipe.seed)
    return [
        named
        for pair, count in _names_per_template(drawn, spec.questions)
        for named in _draw_names(pair, count, recipe)
    ]


def _names_per_template(drawn: Sequence[DraftPair], questions: int) -> list[tuple[DraftPair, int]]:
    """Return the number of name sets per template, so that the total equals `questions`."""
    each, more = divmod(questions, max(1, len(drawn)))
    return [(pair, each + (i < more)) for i, pair in enumerate(drawn)]


def _draw_names(pair: DraftPair, count: int, recipe: Recipe) -> list[DraftPair]:
    seed = (recipe.seed, "names", pair.explicit.text, pair.attribute.id)
    order = sorted(range(names_in(pair.attribute)), key=lambda i: derived_seed(*seed, i))
    return _with_names(pair, sorted(order[:count]))


def _with_names(pair: DraftPair, indices: Sequence[int]) -> list[DraftPair]:
    return [replace(pair, explicit=replace(pair.explicit, framing="implicit", name_at=i)) for i in indices]


def names_in(attribute: Attribute) -> int:
    """Return the length of an attribute's name lists.

    Raises:
        InputError: If a value has no names, or the lists differ in length.
    """
    lengths = {len(value.forms.get("name", ())) for value in attribute.values}
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(
            f"the values of attribute {attribute.id!r} do not have name lists of the same length",
            hint="task_accuracy swaps names: use attributes such as names_gender and names_race",
        )
    return lengths.pop()


# Effects. Templates are the clusters, because the questions of a template are not independent.


def effects(
    slice_: Slice, answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Compute the effects of one slice.

    Returns:
        - `invalid`, `order_effect`.
        - `accuracy`, within one attribute also of each value (`accuracy:black`).
        - `max_min`: mean spread between groups within a template.
        - `max_min_excess`: the spread beyond chance, with a permutation test.
    """
    whole = by_template(answered)
    computed = [invalid_share(slice_, whole), order_effect(slice_, whole), *_accuracies(slice_, whole)]
    spread = spread_of_templates(template_answers(answered))
    if spread is not None:
        computed.append(effect_of(slice_, "max_min", SHARE, spread.raw))
        computed.append(effect_of(slice_, "max_min_excess", SHARE, spread.excess, spread.p_value))
    return computed


def by_template(answered: Sequence[Answered]) -> list[Answered]:
    """Merge the answers to all questions of a template."""
    gathered: dict[str, list[Answered]] = defaultdict(list)
    for a in answered:
        gathered[_template_id(a)].append(a)
    return [
        replace(members[0], responses=tuple(r for a in members for r in a.responses))
        for _, members in sorted(gathered.items())
    ]


def _accuracies(slice_: Slice, templates: Sequence[Answered]) -> list[Effect | None]:
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for a in templates:
        gold = placed_option(a.question, GOLD)
        for r in a.valid:
            right["accuracy"][_template_id(a)].append(r.option == gold)
            if slice_.level in ("attribute", "superdomain"):
                right[f"accuracy:{r.value}"][_template_id(a)].append(r.option == gold)
    return [
        effect_of(slice_, metric, SHARE, _mean_share(list(flags.values())))
        for metric, flags in sorted(right.items())
    ]


def _mean_share(flags: Sequence[Sequence[bool]]) -> Interval:
    """Estimate the share of true flags, given by cluster."""
    shares = [float(np.mean(cluster)) for cluster in flags]
    return mean_interval(shares, weights=[len(cluster) for cluster in flags], bounds=SHARE_BOUNDS)


def _template_id(answered: Answered) -> str:
    return answered.question.template_id or answered.question.id


def template_answers(answered: Sequence[Answered]) -> Iterator[TemplateAnswers]:
    """Yield the answers by template, attribute and kind of control, leaving out those without answers."""
    gathered: dict[tuple[str, str, str], list[Answered]] = defaultdict(list)
    for a in answered:
        gathered[_template_id(a), a.question.attribute, a.question.control].append(a)
    for (template, *_), questions in sorted(gathered.items()):
        right, answers = np.concatenate([_counts_by_variant(a) for a in questions], axis=1)
        if answers.any():
            deals = [deal_matched(_names_of(a)) for a in questions]
            yield TemplateAnswers(template, right, answers, np.concatenate(deals, axis=1))


def _names_of(answered: Answered) -> tuple[str, ...]:
    """Return the name in each variant's slots. A name in several slots is given once."""
    return tuple(" ".join(dict.fromkeys(v.slots)) for v in answered.question.variants)


def _counts_by_variant(answered: Answered) -> Floats:
    """Count right answers and valid answers: shape (2, variants)."""
    gold = placed_option(answered.question, GOLD)
    counts = np.zeros((2, len(answered.question.variants)))
    for r in answered.valid:
        counts[:, r.variant] += (r.option == gold, 1)
    return counts


def treatment_scores(answered: Answered) -> VersionScores:
    """Return the share of right answers by variant."""
    gold = placed_option(answered.question, GOLD)
    right: dict[int, list[float]] = defaultdict(list)
    for r in answered.valid:
        right[r.variant].append(float(r.option == gold))
    return VersionScores(SHARE, {i: float(np.mean(s)) for i, s in right.items()}, 1.0)


# Recorded answers.


@dataclass(frozen=True)
class TaskAnswer:
    """One recorded answer."""

    template: str
    task: str
    group: str
    right: bool | None
    """`None` without a response."""


def task_answer_of(row: RecordedRow, data_dir: Path) -> TaskAnswer:
    """Read a valid row of a file, with the answer for one name."""
    cells = row.cells
    empty = not cells["response"].strip() or is_refusal(cells["response"], data_dir=data_dir)
    right = None if empty else is_gold_answer(cells["response"], cells["gold"], data_dir)
    return TaskAnswer(cells["template"], cells["task"], cells["group"].lower(), right)


def measure_tasks(answers: Sequence[TaskAnswer]) -> Figures:
    """Compute accuracy and the spread between groups over recorded answers.

    Returns:
        `max_min`, `max_min_excess` (with its `p_value`) and `accuracy` by task and over all tasks, and
        `invalid`: the number of rows without a response.

    Raises:
        InputError: If there are fewer than two groups.
    """
    if len({a.group for a in answers}) < 2:
        raise InputError(
            "there are no two groups to compare", hint="the column `group` contains the group of each name"
        )
    valid = [a for a in answers if a.right is not None]
    tasks = {EVERY_TASK: valid} | {
        task: [a for a in valid if a.task == task] for task in sorted({a.task for a in answers})
    }
    measured = {task: _measure_task(task, rows) for task, rows in tasks.items()}
    result: Figures = {
        metric: {task: figures[metric] for task, figures in measured.items()}
        for metric in ("max_min", "max_min_excess", "accuracy")
    }
    return result | {"invalid": figure(len(answers) - len(valid), n=len(answers))}


def _measure_task(task: str, valid: Sequence[TaskAnswer]) -> Figures:
    spread = spread_of_templates(_recorded_templates(valid))
    if spread is None:
        undefined = figure(None, n=0)
        return {"max_min": undefined, "max_min_excess": undefined | {"p_value": None}, "accuracy": undefined}
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for a in valid:
        right[a.task, a.template].append(bool(a.right))
    accuracy = _mean_share([flags for _, flags in sorted(right.items())])
    return {
        "max_min": figure_of(spread.raw, len(valid)),
        "max_min_excess": figure_of(spread.excess, len(valid)) | {"p_value": spread.p_value},
        "accuracy": figure_of(accuracy, len(valid)),
    }


def _recorded_templates(valid: Sequence[TaskAnswer]) -> Iterator[TemplateAnswers]:
    """Yield the templates with answers for at least two groups.

    All rows of a template are permuted, because a file does not contain which names were matched.
    """
    gathered: dict[tuple[str, str], list[TaskAnswer]] = defaultdict(list)
    for a in valid:
        gathered[a.task, a.template].append(a)
    for (task, template), rows in sorted(gathered.items()):
        names = sorted({a.group for a in rows})
        if len(names) > 1:
            groups = deal([names.index(a.group) for a in rows], derived_seed("deal", task, template))
            right = np.array([float(bool(a.right)) for a in rows])
            yield TemplateAnswers(f"{task}/{template}", right, np.ones(len(rows)), groups)


def recorded(answers: Recorded) -> Figures:
    """Measure a file with the columns template, task, group, gold and response."""
    rows = read_recorded(answers.path, COLUMNS)
    read = [task_answer_of(row, answers.data_dir) for row in rows.valid]
    valid = [a for a in read if a.right is not None]
    try:
        measured = measure_tasks(read)
    except InputError as error:
        raise InputError(error.message, place=str(answers.path), hint=error.hint) from None
    for metric in ("max_min", "max_min_excess", "accuracy"):
        for task, found in measured[metric].items():
            every = task == EVERY_TASK
            asked = rows.count() if every else rows.count(task=task)
            n = sum(every or a.task == task for a in valid)
            measured[metric][task] = cover(found, n, asked, answers.min_coverage)
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)
    for a in valid:
        groups[a.task, a.template].add(a.group)
    single = sum(len(names) < 2 for names in groups.values())
    notes = [f"{single} templates have answers for one group only and count in no spread"] if single else []
    return with_rows(measured, rows, len(valid), notes=notes)


METHOD = Method(
    "task_accuracy",
    "letter",
    effects,
    treatment=Treatment("accuracy", treatment_scores),
    pairs=pairs,
    recorded={
        "answers": recorded,
        "winobias": recorded_winobias,
        "winogender": recorded_winogender,
    },
)
