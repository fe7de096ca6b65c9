"""What personas cost in accuracy, over recorded answers (Bias Runs Deep, arXiv 2311.04892)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.answers import PLAIN, Effect, Response
from schemas.errors import InputError
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.families import (
    Answered,
    Ask,
    Figures,
    Method,
    Prompts,
    Recorded,
    listed_options,
    prompt_conditions,
)
from tasks.families.effects import Slice, effect_of, figure
from tasks.families.shared import invalid_share, order_effect, placed_option
from tasks.files.tables import plain_answer, read_csv_rows
from tasks.models.protocol import Message
from tasks.stats.hypothesis_tests import mcnemar_p_value
from tasks.stats.resampling import mean_with_interval, sign_flip_p_value
from tasks.stats.shares import share_with_interval

COLUMNS = ("item", "persona", "gold", "response")
INSTRUCTION = "instruction"
"""Column that may say by which instruction the persona was given; each is measured by itself."""


@dataclass(frozen=True)
class PersonaAnswer:
    """One recorded answer; without a persona it belongs to the baseline of every instruction."""

    item: str
    persona: str
    instruction: str
    right: bool
    abstained: bool


def read_personas(path: Path) -> list[PersonaAnswer]:
    """Rows of a CSV file; an empty persona is the baseline. Raises `InputError` for a row without an item or
    without a right answer, and where there is no baseline."""
    answers = [_answer(place, row) for place, row in read_csv_rows(path, COLUMNS)]
    if not any(not a.persona for a in answers):
        raise InputError(
            "there are no answers without a persona",
            place=str(path),
            hint="rows of the baseline have nothing in the column `persona`",
        )
    return answers


def _answer(place: str, row: Mapping[str, str]) -> PersonaAnswer:
    for column in ("item", "gold"):
        if not row[column].strip():
            raise InputError(f"{column} is empty", place=place)
    response = plain_answer(row["response"])
    return PersonaAnswer(
        item=row["item"].strip(),
        persona=row["persona"].strip().lower(),
        instruction=row.get(INSTRUCTION, "").strip() or "all",
        right=bool(response) and response == plain_answer(row["gold"]),
        abstained=not response,
    )


def measure_personas(answers: Sequence[PersonaAnswer]) -> dict[str, Any]:
    """`accuracy` (Wilson) with that of the baseline, `drop` (with McNemar's `p_value`) and `abstention` (rows
    without a response, which solve nothing), by instruction and persona."""
    baseline = _solved([a for a in answers if not a.persona])
    result: dict[str, Any] = {
        "baseline": _accuracy(baseline),
        "accuracy": defaultdict(dict),
        "drop": defaultdict(dict),
        "abstention": defaultdict(dict),
    }
    for instruction, persona in sorted({(a.instruction, a.persona) for a in answers if a.persona}):
        rows = [a for a in answers if (a.instruction, a.persona) == (instruction, persona)]
        solved = _solved(rows)
        result["accuracy"][instruction][persona] = _accuracy(solved)
        result["drop"][instruction][persona] = _drop_recorded_personas(baseline, solved, persona, instruction)
        result["abstention"][instruction][persona] = figure(sum(a.abstained for a in rows), n=len(rows))
    return {k: dict(v) if isinstance(v, defaultdict) else v for k, v in result.items()}


def _solved(rows: Sequence[PersonaAnswer]) -> dict[str, bool]:
    """By item: whether most of its answers are right."""
    right: dict[str, list[bool]] = defaultdict(list)
    for a in rows:
        right[a.item].append(a.right)
    return {item: sum(found) * 2 > len(found) for item, found in sorted(right.items())}


def _accuracy(solved: Mapping[str, bool]) -> dict[str, Any]:
    interval = share_with_interval(sum(solved.values()), len(solved))
    if interval is None:
        return figure(None, n=0)
    return figure(interval.value, interval.low, interval.high, n=interval.n)


def _drop_recorded_personas(
    baseline: Mapping[str, bool], solved: Mapping[str, bool], persona: str, instruction: str
) -> dict[str, Any]:
    both = [(baseline[item], solved[item]) for item in solved if item in baseline]
    if not both:
        return figure(None, n=0) | {"p_value": None}
    seed = derived_seed("persona", persona, instruction)
    interval = mean_with_interval([float(base) - right for base, right in both], seed)
    p = mcnemar_p_value(sum(b and not r for b, r in both), sum(r and not b for b, r in both))
    return figure(interval.value, interval.low, interval.high, n=len(both)) | {"p_value": p}


# The same task answered as somebody: does a persona cost accuracy? (Bias Runs Deep, arXiv 2311.04892).


FAMILY = "persona"
NO_PERSONA = "no_persona"
"""The value of the attribute `persona` that is asked without any."""
GOLD = "gold"
SOLVED = "share of items solved"


def conditions(data_dir: Path) -> tuple[str, ...]:
    """The instructions that give a persona; the plain prompt is the baseline's, in each of them."""
    return tuple(c for c in prompt_conditions(data_dir, FAMILY) if c != PLAIN)


def messages(ask: Ask, prompts: Prompts) -> tuple[Message, ...]:
    """The instruction names the persona, which stands in the slot; the item itself is the same for all."""
    variant = ask.question.variants[ask.variant]
    item = variant.text.partition(": ")[2]
    if variant.value == NO_PERSONA:
        return prompts[FAMILY].fill(question=item, options=listed_options(ask))
    prompt = prompts[f"{FAMILY}.{ask.condition}"]
    return prompt.fill(persona=variant.slots[0], question=item, options=listed_options(ask))


def effects(
    where: Slice, inside: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Invalid answers, order, and `drop`: what personas cost on average. By attribute and subject also for
    each persona: `accuracy` (Wilson), `drop` from the baseline (McNemar) and `abstention`."""
    made = [invalid_share(where, inside), order_effect(where, inside)]
    pairs = {a.question.id: against_baseline(a, attributes) for a in inside}
    costs = [float(np.mean([base - right for _, base, right in found])) for found in pairs.values() if found]
    if costs:
        seed = where.seed("drop")
        p = sign_flip_p_value(costs, seed)
        made.append(effect_of(where, "drop", SOLVED, mean_with_interval(costs, seed), p))
    if where.level not in ("attribute", "superdomain"):
        return made
    by_pair: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for name, base, right in (pair for found in pairs.values() for pair in found):
        by_pair[name].append((base, right))
    return [*made, *_by_persona(where, inside), *(_drop(where, n, by_pair[n]) for n in sorted(by_pair))]


def _by_persona(where: Slice, inside: Sequence[Answered]) -> list[Effect | None]:
    solved: dict[str, list[bool]] = defaultdict(list)
    abstained: dict[str, list[float]] = defaultdict(list)
    for a in inside:
        for i, right in solved_by_variant(a).items():
            name = a.question.variants[i].value
            solved[name].append(right)
            abstained[name].append(float(np.mean([abstains(r) for r in a.responses if r.variant == i])))
    made: list[Effect | None] = []
    for name in sorted(solved):
        shares = share_with_interval(sum(solved[name]), len(solved[name]))
        silent = mean_with_interval(abstained[name], where.seed(f"abstention:{name}"))
        made.append(effect_of(where, f"accuracy:{name}", SOLVED, shares) if shares else None)
        made.append(effect_of(where, f"abstention:{name}", "share of answers", silent))
    return made


def _drop(where: Slice, pair: str, items: Sequence[tuple[bool, bool]]) -> Effect | None:
    metric = f"drop:{pair}"
    interval = mean_with_interval([float(base) - right for base, right in items], where.seed(metric))
    lost = sum(base and not right for base, right in items)
    won = sum(right and not base for base, right in items)
    return effect_of(where, metric, SOLVED, interval, mcnemar_p_value(lost, won))


def against_baseline(answered: Answered, attributes: Mapping[str, Attribute]) -> list[tuple[str, bool, bool]]:
    """`persona-baseline`, whether the baseline solved the item, and whether the persona did; nothing where
    the baseline has no answer. In a control without the baseline the first variant stands for it."""
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


def abstains(response: Response) -> bool:
    """Whether an answer chooses no option, or refuses: token probabilities name a likeliest one even then."""
    return response.option is None or response.refused


def solved_by_variant(answered: Answered) -> dict[int, bool]:
    """Whether most of a variant's answers are right; one that abstains is not. Variants without any answer
    are left out."""
    gold = placed_option(answered.question, GOLD)
    right: dict[int, list[bool]] = defaultdict(list)
    for r in answered.responses:
        right[r.variant].append(r.option == gold and not abstains(r))
    return {i: sum(found) * 2 > len(found) for i, found in sorted(right.items())}


def recorded(answers: Recorded) -> Figures:
    """`accuracy`, `drop`, `abstention` by persona, of a file with columns item, persona, gold, response."""
    return measure_personas(read_personas(answers.path))


METHOD = Method(
    FAMILY,
    "letter",
    effects,
    conditions=conditions,
    messages=messages,
    recorded={"answers": recorded},
    free_to_decline=True,
)
