"""Accuracy by group over recorded answers to tasks with swapped names (CALM, arXiv 2308.12539)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from schemas.answers import Effect
from schemas.errors import InputError
from schemas.recipe import Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.families import Answered, Figures, Method, Recorded
from tasks.families.effects import Slice, effect_of, figure
from tasks.families.shared import invalid_share, order_effect, placed_option
from tasks.files.tables import plain_answer, read_csv_rows
from tasks.questions.composition import DraftPair, draw_pairs, make_template_pairs
from tasks.stats.resampling import Interval, mean_with_interval
from tasks.stats.spread import Floats, TemplateAnswers, deal, deal_matched, spread_of_templates

COLUMNS = ("template", "task", "group", "gold", "response")
EVERY_TASK = "all"


@dataclass(frozen=True)
class TaskAnswer:
    """One recorded answer; `right` is `None` where nothing was answered."""

    template: str
    task: str
    group: str
    right: bool | None


def read_tasks(path: Path) -> list[TaskAnswer]:
    """Rows of a CSV file; a row is the answer for one name. Raises `InputError` for a row that does not say
    to which template, task or group it belongs, or what is right."""
    return [_answer(place, row) for place, row in read_csv_rows(path, COLUMNS)]


def _answer(place: str, row: Mapping[str, str]) -> TaskAnswer:
    for column in COLUMNS[:-1]:
        if not row[column].strip():
            raise InputError(f"{column} is empty", place=place, hint="only `response` may be empty")
    response = plain_answer(row["response"])
    right = response == plain_answer(row["gold"]) if response else None
    return TaskAnswer(row["template"].strip(), row["task"].strip(), row["group"].strip().lower(), right)


def measure_tasks(answers: Sequence[TaskAnswer]) -> dict[str, Any]:
    """`max_min`, `max_min_excess` (with `p_value`) and `accuracy` by task and over all; `invalid`: rows
    without an answer, never scored. Raises `InputError` where there is nothing to compare."""
    if len({a.group for a in answers}) < 2:
        raise InputError("there are no two groups to compare", hint="the column `group` says who is named")
    valid = [a for a in answers if a.right is not None]
    tasks = {EVERY_TASK: valid} | {
        task: [a for a in valid if a.task == task] for task in sorted({a.task for a in answers})
    }
    measured = {task: _measure(task, rows) for task, rows in tasks.items()}
    result: dict[str, Any] = {
        metric: {task: found[metric] for task, found in measured.items()}
        for metric in ("max_min", "max_min_excess", "accuracy")
    }
    return result | {"invalid": figure(len(answers) - len(valid), n=len(answers))}


def _measure(task: str, valid: Sequence[TaskAnswer]) -> dict[str, Any]:
    seed = derived_seed("task_accuracy", task)
    spread = spread_of_templates(_cells(valid), seed)
    if spread is None:
        nothing = figure(None, n=0)
        return {"max_min": nothing, "max_min_excess": nothing | {"p_value": None}, "accuracy": nothing}
    accuracy = _accuracy(valid, seed)
    return {
        "max_min": _figure(spread.raw, len(valid)),
        "max_min_excess": _figure(spread.excess, len(valid)) | {"p_value": spread.p_value},
        "accuracy": _figure(accuracy, len(valid)),
    }


def _accuracy(valid: Sequence[TaskAnswer], seed: int) -> Interval:
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for a in valid:
        right[a.task, a.template].append(bool(a.right))
    shares = [(float(np.mean(found)), len(found)) for _, found in sorted(right.items())]
    return mean_with_interval([s for s, _ in shares], seed, weights=[n for _, n in shares])


def _figure(interval: Interval, n: int) -> dict[str, Any]:
    return figure(interval.value, interval.low, interval.high, n=n, clusters=interval.n)


def _cells(valid: Sequence[TaskAnswer]) -> Iterator[TemplateAnswers]:
    """Templates in which two groups or more were answered for. Rows of one template are dealt freely: nothing
    says which names were matched."""
    by_template: dict[tuple[str, str], list[TaskAnswer]] = defaultdict(list)
    for a in valid:
        by_template[a.task, a.template].append(a)
    for (task, template), rows in sorted(by_template.items()):
        names = sorted({a.group for a in rows})
        if len(names) > 1:
            groups = deal([names.index(a.group) for a in rows], derived_seed("deal", task, template))
            right = np.array([float(bool(a.right)) for a in rows])
            yield TemplateAnswers(f"{task}/{template}", right, np.ones(len(rows)), groups)


# Tasks whose answer cannot depend on the name in them: is it found as often for every group? After CALM
# (arXiv 2308.12539).


GOLD = "gold"
"""The role of the right option."""
SHARE = "share of right answers"
FEWEST_NAMES = 10
"""Names of each group that a drawn template is asked with at least: with one, best and worst group cannot be
told from chance."""


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[DraftPair]:
    """Every template with every name: one question for each place in the lists, so that groups are matched.
    `questions` draws templates first, then names."""
    bare = make_template_pairs(data_dir, "task_accuracy", spec, attributes)
    for attribute in attributes:
        names_in(attribute)
    if not spec.questions:
        return [named for pair in bare for named in _with_names(pair, range(names_in(pair.attribute)))]
    drawn = draw_pairs(bare, ceil(spec.questions / FEWEST_NAMES), recipe.seed)
    return [named for pair, count in _shares(drawn, spec.questions) for named in _draw(pair, count, recipe)]


def _shares(drawn: Sequence[DraftPair], questions: int) -> list[tuple[DraftPair, int]]:
    """How many names each drawn template is asked with; as many as there are questions, all told."""
    each, more = divmod(questions, max(1, len(drawn)))
    return [(pair, each + (i < more)) for i, pair in enumerate(drawn)]


def _draw(pair: DraftPair, count: int, recipe: Recipe) -> list[DraftPair]:
    seed = (recipe.seed, "names", pair.explicit.text, pair.attribute.id)
    places = sorted(range(names_in(pair.attribute)), key=lambda place: derived_seed(*seed, place))
    return _with_names(pair, sorted(places[:count]))


def _with_names(pair: DraftPair, places: Sequence[int]) -> list[DraftPair]:
    return [
        replace(pair, explicit=replace(pair.explicit, framing="implicit", name_at=place)) for place in places
    ]


def names_in(attribute: Attribute) -> int:
    """Places in an attribute's lists of names. Raises `InputError` where there is none, or lists differ."""
    lengths = {len(value.forms.get("name", ())) for value in attribute.values}
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(
            f"attribute {attribute.id!r} has no list of names of one length for each of its values",
            hint="task_accuracy swaps names: use attributes such as names_gender and names_race",
        )
    return lengths.pop()


def count_rows(templates: int, attributes: Sequence[Attribute]) -> int:
    """Variants of that many templates, each asked with every name of every value of every attribute."""
    return templates * sum(len(a.values) * names_in(a) for a in attributes)


def effects(
    where: Slice, inside: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Invalid answers, order; `accuracy`, within one attribute that of each value; and the largest difference
    between groups within a template: as it is (`max_min`) and beyond chance (`max_min_excess`)."""
    whole = by_template(inside)
    made = [invalid_share(where, whole), order_effect(where, whole), *_accuracies(where, whole)]
    spread = spread_of_templates(cells_of(inside), where.seed("max_min"))
    if spread is not None:
        made.append(effect_of(where, "max_min", SHARE, spread.raw))
        made.append(effect_of(where, "max_min_excess", SHARE, spread.excess, spread.p_value))
    return made


def by_template(inside: Sequence[Answered]) -> list[Answered]:
    """All answers to one template as one: its names hang together, and are resampled together."""
    gathered: dict[str, list[Answered]] = defaultdict(list)
    for a in inside:
        gathered[template_of(a)].append(a)
    return [
        replace(found[0], responses=tuple(r for a in found for r in a.responses))
        for _, found in sorted(gathered.items())
    ]


def _accuracies(where: Slice, templates: Sequence[Answered]) -> list[Effect | None]:
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for a in templates:
        gold = placed_option(a.question, GOLD)
        for r in a.valid:
            right["accuracy"][template_of(a)].append(r.option == gold)
            if where.level in ("attribute", "superdomain"):
                right[f"accuracy:{r.value}"][template_of(a)].append(r.option == gold)
    made: list[Effect | None] = []
    for metric, found in sorted(right.items()):
        shares, weights = zip(*((np.mean(t), len(t)) for t in found.values()), strict=True)
        interval = mean_with_interval(shares, where.seed(metric), weights=weights)
        made.append(effect_of(where, metric, SHARE, interval))
    return made


def template_of(answered: Answered) -> str:
    """What is resampled as one."""
    return answered.question.template_id or answered.question.id


def cells_of(inside: Sequence[Answered]) -> Iterator[TemplateAnswers]:
    """Templates by attribute and kind, with the answers to all their names; those without any left out."""
    gathered: dict[tuple[str, str, str], list[Answered]] = defaultdict(list)
    for a in inside:
        gathered[template_of(a), a.question.attribute, a.question.control].append(a)
    for (template, *_), questions in sorted(gathered.items()):
        right, answers = np.concatenate([_by_name(a) for a in questions], axis=1)
        if answers.any():
            deals = [deal_matched(_names_of(a)) for a in questions]
            yield TemplateAnswers(template, right, answers, np.concatenate(deals, axis=1))


def _names_of(answered: Answered) -> tuple[str, ...]:
    """What stands in the slots of each variant; a name that stands there several times, once."""
    return tuple(" ".join(dict.fromkeys(v.slots)) for v in answered.question.variants)


def _by_name(answered: Answered) -> Floats:
    """Right answers and all valid ones by variant, array (2, variants)."""
    gold = placed_option(answered.question, GOLD)
    counts = np.zeros((2, len(answered.question.variants)))
    for r in answered.valid:
        counts[:, r.variant] += (r.option == gold, 1)
    return counts


def recorded(answers: Recorded) -> Figures:
    """`max_min`, `max_min_excess`, `accuracy`, `invalid` of a file with the columns template, task, group,
    gold and response."""
    return measure_tasks(read_tasks(answers.path))


METHOD = Method("task_accuracy", "letter", effects, pairs=pairs, recorded={"answers": recorded})
