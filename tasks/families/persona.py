"""The same task answered as somebody: does a persona cost accuracy? (Bias Runs Deep, arXiv 2311.04892)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from schemas.attribute import Attribute
from schemas.effect import Effect
from schemas.response import PLAIN, Response
from tasks.families.asking import prompt_conditions
from tasks.families.choices import invalid_share, order_effect, placed_option
from tasks.families.method import Answered, Ask, Figures, Method, Prompts, Recorded, listed_options
from tasks.measuring.effects import Slice, effect_of
from tasks.measuring.recorded_personas import measure_personas, read_personas
from tasks.models.protocol import Message
from tasks.stats.bootstrap import mean_with_interval
from tasks.stats.mcnemar import mcnemar_p_value
from tasks.stats.permutation import sign_flip_p_value
from tasks.stats.shares import share_with_interval

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
