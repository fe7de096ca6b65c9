"""Templates crossed with lists of opposed words: one question for each pair that is given.

A completion gives one side and asks for the other. The pairs that stand for `{given}` and the triples that
are offered come from lists (data/triples), so that a score does not hang on a few words. Options go round:
the k-th pair of a template meets the k-th triple from where that template begins, so that each pair is
given once in every template, each triple is offered about equally often, and no text is asked twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.answers import Effect
from schemas.errors import InputError
from schemas.question import Option, Question
from schemas.recipe import Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, TemplateItem
from tasks.families import Answered, Figures, Method, Recorded
from tasks.families.effects import Slice, effect_of, figure
from tasks.families.shared import invalid_share, order_effect
from tasks.files.tables import plain_answer, read_csv_rows
from tasks.files.vocabulary import GIVEN, read_templates, read_triples
from tasks.questions.binding import Draft
from tasks.questions.composition import DraftPair, make_template_pairs
from tasks.stats.resampling import DRAWS, MAX_EXACT, Floats, cluster_bootstrap, p_value
from tasks.text.slots import Slot

Triple = tuple[str, str, str]
"""Favoured, unfavoured, unrelated."""
ROLES = ("stereotype", "anti_stereotype", "unrelated")
VALENCES = (1, -1, 0)


def crossed_pairs(
    recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]
) -> list[DraftPair]:
    """Every template with every attribute that it fits; those with `{given}` once for each of their pairs."""
    files = read_templates(data_dir, "completion", spec.templates)
    items = {item.id: item for file in files for item in file.items}
    names = {n for item in items.values() for n in (*item.given_from, *item.options_from)}
    lists = {name: read_triples(data_dir, name).triples for name in sorted(names)}
    return [
        replace(pair, explicit=draft)
        for pair in make_template_pairs(data_dir, "completion", spec, attributes)
        for draft in _crossed(pair, items[pair.explicit.template_id or ""], lists)
    ]


def _crossed(pair: DraftPair, item: TemplateItem, lists: Mapping[str, Sequence[Triple]]) -> list[Draft]:
    if not item.given_from:
        return [pair.explicit]
    given = [triple for name in item.given_from for triple in lists[name]]
    offered = [triple for name in item.options_from for triple in lists[name]]
    start = derived_seed("options", item.id) % len(offered)
    return [
        replace(
            pair.explicit,
            text=item.text.replace(GIVEN, str(_side_slot(favoured, other, pair.attribute))),
            options=_options(offered[(start + k) % len(offered)]),
            template_id=f"{item.id}/{favoured}",
        )
        for k, (favoured, other, _) in enumerate(given)
    ]


def _side_slot(favoured: str, other: str, attribute: Attribute) -> Slot:
    """For each value the word of its side."""
    sides = [value.valence for value in attribute.values]
    if not set(sides) <= {1, -1}:
        raise InputError(
            f"attribute {attribute.id!r} has values that are on neither side",
            hint=f"for templates with {GIVEN} every value needs `valence: 1` or `valence: -1`",
        )
    return Slot(tuple(favoured if side == 1 else other for side in sides))


def _options(triple: Triple) -> tuple[Option, ...]:
    return tuple(
        Option(text=text, role=role, valence=valence)
        for text, role, valence in zip(triple, ROLES, VALENCES, strict=True)
    )


def template_of(template_id: str) -> str:
    """The template that a question was made from, whatever was given: scores are resampled by it."""
    return template_id.partition("/")[0]


# The completion score: does the side that is given go with the side that is chosen? (arXiv 2309.08902)


def kendall_tau_c(given: Sequence[int], chosen: Sequence[int]) -> float:
    """Stuart's tau-c between the valence of the given side (±1) and of the choice (+1, 0, −1).

    In [−1, 1]; positive where like goes with like. NaN where either does not vary.
    """
    from scipy.stats import kendalltau

    if len(set(given)) < 2 or len(set(chosen)) < 2:
        return nan
    return float(kendalltau(given, chosen, variant="c").statistic)


def tau_c_of_counts(tables: ArrayLike) -> NDArray[np.float64]:
    """Tau-c for many 2 × 3 count tables at once: array (…, 2, 3), rows −1/+1, columns −1/0/+1 → array (…).

    With two rows and C the pairs ordered alike, D unlike: `2m(C − D) / (n²(m − 1))`, m = 2 rows or
    choices that occur, whichever is fewer. Tables that do not vary give NaN.
    """
    counts = np.asarray(tables, dtype=float)
    low, high = counts[..., 0, :], counts[..., 1, :]
    alike = low[..., 0] * (high[..., 1] + high[..., 2]) + low[..., 1] * high[..., 2]
    unlike = low[..., 2] * (high[..., 0] + high[..., 1]) + low[..., 1] * high[..., 0]
    n = counts.sum(axis=(-2, -1))
    varied = (low.sum(-1) > 0) & (high.sum(-1) > 0) & (((low + high) > 0).sum(-1) > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(varied, 4 * (alike - unlike) / n**2, np.nan)


def tau_c_of_totals(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """As `tau_c_of_counts`, from flat counts (…, 6): a statistic for `cluster_bootstrap`."""
    return tau_c_of_counts(totals.reshape(*totals.shape[:-1], 2, 3))


def side_flip_p_value(tables: ArrayLike, seed: int) -> float:
    """Two-sided p that sides do not matter: array (questions, 2, 3) of counts, whose two rows are exchanged
    question by question, exactly where there are few. 1 where tau-c is not defined."""
    counts = np.asarray(tables, dtype=float)
    observed = float(tau_c_of_counts(counts.sum(axis=0)))
    if not np.isfinite(observed):
        return 1.0
    flips = _flips(len(counts), seed)
    kept = np.tensordot(1 - flips, counts, axes=1)
    flipped = np.tensordot(flips, counts[:, ::-1, :], axes=1)
    return p_value(np.nan_to_num(tau_c_of_counts(kept + flipped)), "both")


def _flips(n: int, seed: int) -> NDArray[np.float64]:
    """0/1 per question, array (ways, n); the first row flips nothing."""
    if 2**n <= MAX_EXACT:
        return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)
    drawn = np.random.default_rng(seed).integers(0, 2, size=(DRAWS, n))
    return np.vstack([np.zeros(n), drawn]).astype(float)


# Tau-c over recorded completions, in the columns of Subtler Biases (arXiv 2309.08902).


COLUMNS = (
    "context",
    "anti_stereotype",
    "stereotype",
    "unrelated",
    "item_category",
    "type_category",
    "response",
)
DIRECTIONS_RECORDED_COMPLETIONS = {"type1": "sai", "type2": "asa"}
SIDES = {"positive": 1, "negative": -1}
CHOICES = {"stereotype": 1, "unrelated": 0, "anti_stereotype": -1}
"""Relative to the side given: like goes with like, neither, or the opposite."""


@dataclass(frozen=True)
class CompletionAnswer:
    """One recorded answer. `choice` is `None` where it is none of the options."""

    cluster: str
    """The pair of opposed options: rows that share it are not independent."""
    direction: str
    side: int
    choice: str | None

    @property
    def valence(self) -> int:
        """Valence of the choice: +1, 0 or −1."""
        return self.side * CHOICES[self.choice or "unrelated"]


def read_completions(path: Path) -> list[CompletionAnswer]:
    """Rows of a CSV file. Raises `InputError` for an unknown direction or side, naming the line."""
    return [_completion(place, row) for place, row in read_csv_rows(path, COLUMNS)]


def _completion(place: str, row: Mapping[str, str]) -> CompletionAnswer:
    options = {role: plain_answer(row[role]) for role in CHOICES}
    answer = plain_answer(row["response"])
    chosen = [role for role, option in options.items() if answer and option == answer]
    pair = sorted((options["stereotype"], options["anti_stereotype"]))
    return CompletionAnswer(
        cluster="/".join([row.get("bias_type", ""), *pair]),
        direction=_one_of(row["type_category"], DIRECTIONS_RECORDED_COMPLETIONS, "type_category", place),
        side=_one_of(row["item_category"], SIDES, "item_category", place),
        choice=chosen[0] if len(chosen) == 1 else None,
    )


def _one_of(value: str, known: Mapping[str, Any], column: str, place: str) -> Any:
    try:
        return known[value.strip().lower()]
    except KeyError:
        raise InputError(
            f"{column} is {value[:40]!r}", place=place, hint=f"it must be one of: {', '.join(known)}"
        ) from None


def measure_completions(completions: Sequence[CompletionAnswer]) -> dict[str, Any]:
    """`tau_c_sai`, `tau_c_asa`, `invalid`, and the shares of choices given the side."""
    if not completions:
        raise InputError("there are no answers in the file")
    valid = [c for c in completions if c.choice is not None]
    result: dict[str, Any] = {
        f"tau_c_{direction}": _tau_c_recorded_completions(
            [c for c in valid if c.direction == direction], direction
        )
        for direction in DIRECTIONS_RECORDED_COMPLETIONS.values()
    }
    result["invalid"] = figure(len(completions) - len(valid), n=len(completions))
    result["shares"] = {
        direction: _shares([c for c in valid if c.direction == direction])
        for direction in DIRECTIONS_RECORDED_COMPLETIONS.values()
    }
    return result


def _tau_c_recorded_completions(valid: Sequence[CompletionAnswer], direction: str) -> dict[str, Any]:
    tables: dict[str, Floats] = defaultdict(lambda: np.zeros((2, 3)))
    for c in valid:
        tables[c.cluster][(c.side + 1) // 2, c.valence + 1] += 1
    if not tables or not np.isfinite(tau_c_of_counts(sum(tables.values()))):
        return figure(None, n=len(valid))
    counts = np.array([tables[cluster].ravel() for cluster in sorted(tables)])
    interval = cluster_bootstrap(counts, tau_c_of_totals, derived_seed("completion", direction))
    return figure(interval.value, interval.low, interval.high, n=len(valid), clusters=interval.n)


def _shares(valid: Sequence[CompletionAnswer]) -> dict[str, dict[str, float]]:
    """Share of each kind of choice, given the positive or the negative side."""
    shares = {}
    for name, side in SIDES.items():
        chosen = Counter(c.choice for c in valid if c.side == side)
        total = sum(chosen.values())
        shares[name] = {role: chosen[role] / total for role in CHOICES} if total else {}
    return shares


# Completions: which of three options fills the blank, like with like or not (arXiv 2309.08902).


DIRECTIONS = ("sai", "asa")
"""A completion's domain: stimulus to attribute, or attribute to stimulus."""


def effects(
    where: Slice, inside: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Invalid answers, the effect of order, and tau-c of either direction; over an attribute with further
    factors also at each of their levels: `tau_c_sai:woman`."""
    levels: dict[str, frozenset[str] | None] = {"": None}
    if where.level == "attribute":
        levels |= levels_of(attributes[where.attribute])
    taus = [_tau_c(where, inside, d, level, values) for level, values in levels.items() for d in DIRECTIONS]
    return [invalid_share(where, inside), order_effect(where, inside), *taus]


def levels_of(attribute: Attribute) -> dict[str, frozenset[str] | None]:
    """The values at each level of every factor that both sides have: not those of the sides themselves."""
    sides: dict[str, dict[str, int | None]] = defaultdict(dict)
    for value in attribute.values:
        for level in value.factors.values():
            sides[level][value.id] = value.valence
    return {level: frozenset(found) for level, found in sides.items() if {1, -1} <= set(found.values())}


def _tau_c(
    where: Slice, inside: Sequence[Answered], direction: str, level: str, values: frozenset[str] | None
) -> Effect | None:
    """Resampled, and sides exchanged, template by template: questions of one template are alike."""
    by_template: dict[str, Floats] = defaultdict(lambda: np.zeros((2, 3)))
    for a in inside:
        if a.question.domain == direction:
            by_template[cluster_of(a.question)] += side_by_choice(a, values)
    counted = [table for _, table in sorted(by_template.items()) if table.sum()]
    if not counted:
        return None
    metric = f"tau_c_{direction}" + (f":{level}" if level else "")
    seed = where.seed(metric)
    interval = cluster_bootstrap(np.reshape(counted, (len(counted), 6)), tau_c_of_totals, seed)
    return effect_of(where, metric, "Kendall's tau-c", interval, side_flip_p_value(counted, seed))


def cluster_of(question: Question) -> str:
    """Its template; a question of no template stands for itself."""
    return template_of(question.template_id) if question.template_id else question.id


def side_by_choice(answered: Answered, values: frozenset[str] | None = None) -> Floats:
    """Counts of valid answers, array (2, 3): valence of the variant (−1, +1) by that of the choice
    (−1, 0, +1). Variants and options without a valence do not count, nor do variants of other `values`."""
    table = np.zeros((2, 3))
    variants = {
        v.index: v.valence if values is None or v.value in values else None
        for v in answered.question.variants
    }
    for r in answered.valid:
        side, chosen = variants[r.variant], answered.question.options[r.option or 0].valence
        if side and chosen is not None:
            table[(side + 1) // 2, chosen + 1] += 1
    return table


def released(
    answered: Sequence[Answered], attributes: Mapping[str, Attribute], data_dir: Path
) -> Figures:
    """The figures of recorded completions, from a release's own answers."""
    roles = {relative: role for role, relative in CHOICES.items()}
    found = []
    for a in answered:
        sides = {v.index: v.valence for v in a.question.variants}
        for r in a.responses:
            side = sides[r.variant]
            if side and a.question.domain in DIRECTIONS:
                valence = None if r.option is None else a.question.options[r.option].valence
                choice = None if valence is None else roles[side * valence]
                found.append(CompletionAnswer(cluster_of(a.question), a.question.domain, side, choice))
    return measure_completions(found)


def recorded(answers: Recorded) -> Figures:
    """`tau_c_sai`, `tau_c_asa`, `invalid`, `shares` of a file in the columns of Subtler Biases."""
    return measure_completions(read_completions(answers.path))


METHOD = Method(
    "completion",
    "letter",
    effects,
    pairs=crossed_pairs,
    recorded={"subtler-biases": recorded},
    released=released,
)
