"""Tasks answered in the role of a persona: does it cost accuracy? (Bias Runs Deep, arXiv 2311.04892).

Conditions are the instructions that give a persona. The baseline is the plain prompt without a persona, and
belongs to every condition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.answers import PLAIN, Effect, Response
from schemas.errors import InputError
from schemas.vocabulary import Attribute
from tasks.families import (
    Answered,
    Ask,
    Figures,
    Method,
    Prompts,
    Recorded,
    Treatment,
    VersionScores,
    listed_options,
    prompt_conditions,
)
from tasks.families.effects import Slice, effect_of, figure, figure_of
from tasks.families.recorded import cover, with_rows, without_value
from tasks.families.shared import invalid_share, is_gold_answer, order_effect, placed_option
from tasks.files.readers import is_refusal
from tasks.files.recorded import Column, RecordedRow, RecordedRows, read_recorded
from tasks.models.protocol import Message
from tasks.stats.hypothesis_tests import mcnemar_p_value
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, mean_interval
from tasks.stats.resampling import Interval
from tasks.stats.shares import share_with_interval
from tasks.stats.signed_means import signed_mean

FAMILY = "persona"
NO_PERSONA = "no_persona"
"""Value of the attribute `persona` for the baseline."""
GOLD = "gold"
SOLVED = "share of items solved"
INSTRUCTION = "instruction"
"""Optional column: the instruction that gave the persona. Each is measured by itself."""
COLUMNS = (
    Column("item", "id"),
    Column("persona", "label", blank=""),
    Column("gold", "text"),
    Column("response", "answer"),
    Column(INSTRUCTION, "label", required=False, absent="all"),
)
"""Columns of a recorded file. Rows without a persona are the baseline."""


# Asking.


def conditions(data_dir: Path) -> tuple[str, ...]:
    """Return the instructions that give a persona. The plain prompt is the baseline in each of them."""
    return tuple(c for c in prompt_conditions(data_dir, FAMILY) if c != PLAIN)


def messages(ask: Ask, prompts: Prompts) -> tuple[Message, ...]:
    """Fill the condition's instruction with the persona, or the plain prompt for the baseline.

    The item is the same for all personas.
    """
    variant = ask.question.variants[ask.variant]
    item = variant.text.partition(": ")[2]
    if variant.value == NO_PERSONA:
        return prompts[FAMILY].fill(question=item, options=listed_options(ask))
    prompt = prompts[f"{FAMILY}.{ask.condition}"]
    return prompt.fill(persona=variant.slots[0], question=item, options=listed_options(ask))


# Scores of one question.


def abstains(response: Response) -> bool:
    """Return whether an answer refuses or chooses no option.

    Token probabilities give a most likely option even if the answer refuses.
    """
    return response.option is None or response.refused


def solved_by_variant(answered: Answered) -> dict[int, bool]:
    """Return whether most of a variant's answers are right, for variants with answers.

    An abstention is not right.
    """
    gold = placed_option(answered.question, GOLD)
    right: dict[int, list[bool]] = defaultdict(list)
    for r in answered.responses:
        right[r.variant].append(r.option == gold and not abstains(r))
    return {i: _mostly(flags) for i, flags in sorted(right.items())}


def against_baseline(answered: Answered, attributes: Mapping[str, Attribute]) -> list[tuple[str, bool, bool]]:
    """Pair each persona with the baseline on one item.

    Returns:
        (`persona-baseline`, solved by the baseline, solved by the persona). Empty if the baseline has no
        answer. In a control without a baseline, the first variant takes its place.
    """
    baseline = attributes[answered.question.attribute].baseline
    variants = answered.question.variants
    base = next((v.index for v in variants if v.value == baseline), variants[0].index)
    solved = solved_by_variant(answered)
    if base not in solved:
        return []
    return [
        (f"{variants[i].value}-{variants[base].value}", solved[base], right)
        for i, right in solved.items()
        if i != base
    ]


def _mostly(flags: Sequence[bool]) -> bool:
    return sum(flags) * 2 > len(flags)


# Effects.


def effects(
    slice_: Slice, answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Compute the effects of one slice.

    Returns:
        - `invalid`, `order_effect`.
        - `drop`: mean loss of accuracy over personas, with a sign-flip test over items.
        - For attributes and subjects also by persona: `accuracy` (exact interval), `drop` from the baseline
          (McNemar's test) and `abstention`.
    """
    computed = [invalid_share(slice_, answered), order_effect(slice_, answered)]
    pairs_by_item = [against_baseline(a, attributes) for a in answered]
    drops = [float(np.mean([base - right for _, base, right in pairs])) for pairs in pairs_by_item if pairs]
    if drops:
        signed = signed_mean(drops, slice_.seed("drop"), bounds=SIGNED_BOUNDS)
        computed.append(effect_of(slice_, "drop", SOLVED, *signed))
    if slice_.level not in ("attribute", "superdomain"):
        return computed
    by_persona: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for name, base, right in (pair for pairs in pairs_by_item for pair in pairs):
        by_persona[name].append((base, right))
    computed += _accuracies(slice_, answered)
    for name in sorted(by_persona):
        metric = f"drop:{name}"
        interval, p = accuracy_drop(by_persona[name])
        computed.append(effect_of(slice_, metric, SOLVED, interval, p))
    return computed


def _accuracies(slice_: Slice, answered: Sequence[Answered]) -> list[Effect | None]:
    solved: dict[str, list[bool]] = defaultdict(list)
    abstained: dict[str, list[float]] = defaultdict(list)
    for a in answered:
        for i, right in solved_by_variant(a).items():
            name = a.question.variants[i].value
            solved[name].append(right)
            abstained[name].append(float(np.mean([abstains(r) for r in a.responses if r.variant == i])))
    computed: list[Effect | None] = []
    for name in sorted(solved):
        accuracy = share_with_interval(sum(solved[name]), len(solved[name]))
        abstention = mean_interval(abstained[name], bounds=SHARE_BOUNDS)
        computed.append(effect_of(slice_, f"accuracy:{name}", SOLVED, accuracy) if accuracy else None)
        computed.append(effect_of(slice_, f"abstention:{name}", "share of answers", abstention))
    return computed


def accuracy_drop(pairs: Sequence[tuple[bool, bool]]) -> tuple[Interval, float]:
    """Estimate the loss of accuracy over paired items.

    Args:
        pairs: (solved by the baseline, solved by the persona), one per item.

    Returns:
        The mean loss with its interval, and the p-value of McNemar's test.
    """
    interval = mean_interval([float(base) - right for base, right in pairs], bounds=SIGNED_BOUNDS)
    lost = sum(base and not right for base, right in pairs)
    gained = sum(right and not base for base, right in pairs)
    return interval, mcnemar_p_value(lost, gained)


def treatment_scores(answered: Answered) -> VersionScores:
    """Return the share of right answers by variant. An abstention is not right."""
    gold = placed_option(answered.question, GOLD)
    right: dict[int, list[float]] = defaultdict(list)
    for r in answered.responses:
        right[r.variant].append(float(r.option == gold and not abstains(r)))
    return VersionScores("share of right answers", {i: float(np.mean(s)) for i, s in right.items()}, 1.0)


# Recorded answers.


@dataclass(frozen=True)
class PersonaAnswer:
    """One recorded answer."""

    item: str
    persona: str
    """Empty for the baseline, which belongs to every instruction."""
    instruction: str
    right: bool
    abstained: bool
    """Without a response, or with a refusal."""
    answered: bool = True
    """Whether there is a response."""


def read_personas(rows: RecordedRows, data_dir: Path) -> list[PersonaAnswer]:
    """Read the valid rows of a file. Rows with an empty persona are the baseline.

    Raises:
        InputError: If there is no baseline.
    """
    answers = [_persona_answer(row, data_dir) for row in rows.valid]
    if all(a.persona for a in answers):
        personas = ", ".join(sorted({a.persona for a in answers}))
        raise InputError(
            "there are no answers without a persona",
            place=str(rows.path),
            hint=f"the personas are: {personas}. Add the baseline: rows with nothing in the column `persona`",
        )
    return answers


def _persona_answer(row: RecordedRow, data_dir: Path) -> PersonaAnswer:
    response = row.cells["response"]
    empty = not response.strip()
    abstained = empty or is_refusal(response, data_dir=data_dir)
    return PersonaAnswer(
        item=row.cells["item"],
        persona=row.cells["persona"].lower(),
        instruction=row.cells[INSTRUCTION],
        right=not abstained and is_gold_answer(response, row.cells["gold"], data_dir),
        abstained=abstained,
        answered=not empty,
    )


def measure_personas(answers: Sequence[PersonaAnswer]) -> Figures:
    """Compute accuracy by persona over recorded answers.

    Returns:
        `baseline`: its accuracy. By instruction and persona: `accuracy` (exact interval), `drop` (with the
        `p_value` of McNemar's test) and `abstention` (number of rows without a response).
    """
    baseline = _solved_by_item([a for a in answers if not a.persona])
    result: Figures = {
        "baseline": _accuracy_figure(baseline),
        "accuracy": defaultdict(dict),
        "drop": defaultdict(dict),
        "abstention": defaultdict(dict),
    }
    for instruction, persona in sorted({(a.instruction, a.persona) for a in answers if a.persona}):
        rows = [a for a in answers if (a.instruction, a.persona) == (instruction, persona)]
        solved = _solved_by_item(rows)
        result["accuracy"][instruction][persona] = _accuracy_figure(solved)
        result["drop"][instruction][persona] = _drop_figure(baseline, solved)
        result["abstention"][instruction][persona] = figure(sum(a.abstained for a in rows), n=len(rows))
    return {k: dict(v) if isinstance(v, defaultdict) else v for k, v in result.items()}


def _solved_by_item(rows: Sequence[PersonaAnswer]) -> dict[str, bool]:
    right: dict[str, list[bool]] = defaultdict(list)
    for a in rows:
        right[a.item].append(a.right)
    return {item: _mostly(flags) for item, flags in sorted(right.items())}


def _accuracy_figure(solved: Mapping[str, bool]) -> Figures:
    interval = share_with_interval(sum(solved.values()), len(solved))
    return figure(None, n=0) if interval is None else figure_of(interval)


def _drop_figure(baseline: Mapping[str, bool], solved: Mapping[str, bool]) -> Figures:
    pairs = [(baseline[item], solved[item]) for item in solved if item in baseline]
    if not pairs:
        return figure(None, n=0) | {"p_value": None}
    interval, p = accuracy_drop(pairs)
    return figure_of(interval) | {"p_value": p}


def recorded(answers: Recorded) -> Figures:
    """Measure a file with the columns item, persona, gold and response."""
    rows = read_recorded(answers.path, COLUMNS)
    read = read_personas(rows, answers.data_dir)
    measured = measure_personas(read)
    least = answers.min_coverage
    plain, asked = [a for a in read if not a.persona], rows.count(persona="")
    measured["baseline"] = cover(measured["baseline"], _answered(plain), asked, least)
    unpaired = 0
    items = {a.item for a in plain}
    for instruction, by_persona in measured["accuracy"].items():
        drops = measured["drop"][instruction]
        for persona in by_persona:
            own = [a for a in read if (a.instruction, a.persona) == (instruction, persona)]
            asked = sum(
                (row.cells.get(INSTRUCTION), row.cells.get("persona", "").lower()) == (instruction, persona)
                for row in rows.every
            )
            for figures in (by_persona, drops):
                figures[persona] = cover(figures[persona], _answered(own), asked, least)
            if measured["baseline"]["value"] is None:
                drops[persona] = without_value(drops[persona], "the baseline was not measured")
            unpaired += len({a.item for a in own} - items)
    notes = [f"{unpaired} items of personas have no baseline and count in no drop"] if unpaired else []
    return with_rows(measured, rows, _answered(read), notes=notes)


def _answered(answers: Sequence[PersonaAnswer]) -> int:
    return sum(a.answered for a in answers)


METHOD = Method(
    FAMILY,
    "letter",
    effects,
    treatment=Treatment("accuracy", treatment_scores),
    conditions=conditions,
    messages=messages,
    recorded={"answers": recorded},
    free_to_decline=True,
    measures_refusals=True,
)
