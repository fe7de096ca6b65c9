"""Completions: which of three options fills the blank? (Subtler Biases, arXiv 2309.08902).

A completion gives one side (an attribute, or a stimulus such as a group) and asks for the other. Options are
favoured (valence +1), unfavoured (-1) or unrelated (0). Measured is whether favoured goes with favoured, as
Kendall's tau-c.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike

from schemas.answers import Effect
from schemas.errors import InputError
from schemas.question import Option, Question
from schemas.recipe import Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, TemplateItem
from tasks.families import Answered, Figures, Method, Recorded, Treatment, VersionScores
from tasks.families.effects import Slice, effect_of, figure, figure_of
from tasks.families.recorded import cover, with_rows
from tasks.families.shared import invalid_share, order_effect
from tasks.files.readers import read_answer
from tasks.files.recorded import Column, RecordedRow, read_recorded
from tasks.files.vocabulary import GIVEN, read_templates, read_triples
from tasks.questions.binding import MOST_VERSIONS, Draft
from tasks.questions.composition import DraftPair, make_template_pairs
from tasks.stats.intervals import SIGNED_BOUNDS, statistic_interval
from tasks.stats.resampling import DRAWS, MAX_EXACT, Floats, p_value
from tasks.text.assignments import plain_answer
from tasks.text.slots import Slot

Triple = tuple[str, str, str]
"""Favoured, unfavoured, unrelated."""
ROLES = ("stereotype", "anti_stereotype", "unrelated")
VALENCES = (1, -1, 0)
DIRECTIONS = ("sai", "asa")
"""Domains: stimulus given and attribute chosen, or the reverse."""
RECORDED_DIRECTIONS = {"type1": "sai", "type2": "asa"}
SIDES = {"positive": 1, "negative": -1}
CHOICES = {"stereotype": 1, "unrelated": 0, "anti_stereotype": -1}
"""Valence of a choice relative to the side that is given: the same, neither, or the opposite."""
DIRECTION, SIDE = "type_category", "item_category"
COLUMNS = (
    Column("context", "any"),
    Column("anti_stereotype", "text"),
    Column("stereotype", "text"),
    Column("unrelated", "text"),
    Column(SIDE, known=SIDES),
    Column(DIRECTION, known=RECORDED_DIRECTIONS),
    Column("response", "answer"),
    Column("bias_type", "label", required=False, absent=""),
)
"""Columns of a recorded file."""

GIVEN_CLAUSE = f"who is {GIVEN}"
"""Words of a template that a placebo control replaces by the clause of an irrelevant attribute."""
NEUTRAL_FORMS = {"{person}": "person", "{subject}": "they", "{be}": "are"}
"""Forms of attributes with a gender, as a placebo control has them."""


# Questions. Templates are crossed with lists of opposed words (data/triples), so that a score does not depend
# on a few words. The k-th pair of a template meets the k-th triple, from an offset drawn per template. So
# every pair is given once per template, triples are offered about equally often, and no text repeats.


def crossed_pairs(
    recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]
) -> list[DraftPair]:
    """Draft every template with every attribute that it fits, and with every pair for `{given}`."""
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
    versions = len(pair.attribute.values)
    # Placebos of one template have different cards, so that no prompt is asked twice.
    return [
        replace(
            pair.explicit,
            text=item.text.replace(GIVEN, str(_side_slot(favoured, other, pair.attribute))),
            options=_options(offered[(start + k) % len(offered)]),
            template_id=f"{item.id}/{favoured}",
            placebo_text=_without_side(item.text, versions) if k < MOST_VERSIONS // versions else "",
            name_at=k * versions,
        )
        for k, (favoured, other, _) in enumerate(given)
    ]


def _without_side(text: str, versions: int) -> str:
    """Return the text of a placebo control, or nothing if the given words cannot be replaced.

    `a {person} who is {given}` becomes `a person whose library card ends in 26`, which has no side.
    """
    if GIVEN_CLAUSE not in text:
        return ""
    marks = Slot(tuple(f"<{i}>" for i in range(versions)))
    for form, words in NEUTRAL_FORMS.items():
        text = text.replace(form, words)
    return text.replace(GIVEN_CLAUSE, str(marks))


def _side_slot(favoured: str, other: str, attribute: Attribute) -> Slot:
    """Return a slot with the word for each value's side."""
    sides = [value.valence for value in attribute.values]
    if not set(sides) <= {1, -1}:
        raise InputError(
            f"attribute {attribute.id!r} has values without a side",
            hint=f"set `valence: 1` or `valence: -1` on every value, as templates with {GIVEN} require",
        )
    return Slot(tuple(favoured if side == 1 else other for side in sides))


def _options(triple: Triple) -> tuple[Option, ...]:
    return tuple(
        Option(text=text, role=role, valence=valence)
        for text, role, valence in zip(triple, ROLES, VALENCES, strict=True)
    )


def cluster_of(question: Question) -> str:
    """Return the cluster of a question: its template, whichever pair is given, or else its own id."""
    return question.template_id.partition("/")[0] if question.template_id else question.id


# Kendall's tau-c, in Stuart's form, between the given side and the choice.


def tau_c_of_counts(tables: ArrayLike) -> Floats:
    """Compute tau-c of many tables at once.

    With C concordant and D discordant pairs, n answers, and m the smaller of the numbers of rows and columns
    that occur (always 2): `tau-c = 2m(C - D) / (n²(m - 1))`.

    Args:
        tables: Shape (…, 2, 3). Counts. Rows: given side -1, +1. Columns: valence of the choice -1, 0, +1.

    Returns:
        Shape (…), in [-1, 1], positive if like goes with like. NaN if side or choice does not vary.

    References:
        Stuart (1953), doi:10.1093/biomet/40.1-2.105.
    """
    counts = np.asarray(tables, dtype=float)
    low, high = counts[..., 0, :], counts[..., 1, :]
    concordant = low[..., 0] * (high[..., 1] + high[..., 2]) + low[..., 1] * high[..., 2]
    discordant = low[..., 2] * (high[..., 0] + high[..., 1]) + low[..., 1] * high[..., 0]
    n = counts.sum(axis=(-2, -1))
    varied = (low.sum(-1) > 0) & (high.sum(-1) > 0) & (((low + high) > 0).sum(-1) > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(varied, 4 * (concordant - discordant) / n**2, np.nan)


def tau_c_of_totals(totals: Floats) -> Floats:
    """Compute tau-c of flat tables (…, 6). This is a statistic for `statistic_interval`."""
    return tau_c_of_counts(totals.reshape(*totals.shape[:-1], 2, 3))


def side_flip_p_value(tables: ArrayLike, seed: int) -> float:
    """Test if the given side matters: exchange the two sides of whole clusters (two-sided).

    Args:
        tables: Shape (clusters, 2, 3). Counts as in `tau_c_of_counts`.
        seed: Seed of the draws. The test is exact up to `MAX_EXACT` exchanges.

    Returns:
        1 if tau-c is undefined.
    """
    counts = np.asarray(tables, dtype=float)
    observed = float(tau_c_of_counts(counts.sum(axis=0)))
    if not np.isfinite(observed):
        return 1.0
    flips = _flips(len(counts), seed)
    kept = np.tensordot(1 - flips, counts, axes=1)
    flipped = np.tensordot(flips, counts[:, ::-1, :], axes=1)
    return p_value(np.nan_to_num(tau_c_of_counts(kept + flipped)), "both")


def _flips(n: int, seed: int) -> Floats:
    """Return 0 or 1 per cluster, shape (exchanges, n). Row 0 flips nothing."""
    if 2**n <= MAX_EXACT:
        return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)
    drawn = np.random.default_rng(seed).integers(0, 2, size=(DRAWS, n))
    return np.vstack([np.zeros(n), drawn]).astype(float)


# Effects.


def effects(
    slice_: Slice, answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Compute the effects of one slice.

    Returns:
        `invalid`, `order_effect`, and tau-c in each direction (`tau_c_sai`). For an attribute with further
        factors also tau-c at each of their levels (`tau_c_sai:woman`).
    """
    levels: dict[str, frozenset[str] | None] = {"": None}
    if slice_.level == "attribute":
        levels |= levels_of(attributes[slice_.attribute])
    taus = [
        _tau_c(slice_, answered, direction, level, values)
        for level, values in levels.items()
        for direction in DIRECTIONS
    ]
    return [invalid_share(slice_, answered), order_effect(slice_, answered), *taus]


def levels_of(attribute: Attribute) -> dict[str, frozenset[str] | None]:
    """Return the values at each level of the factors, for levels that both sides have."""
    sides: dict[str, dict[str, int | None]] = defaultdict(dict)
    for value in attribute.values:
        for level in value.factors.values():
            sides[level][value.id] = value.valence
    return {level: frozenset(values) for level, values in sides.items() if {1, -1} <= set(values.values())}


def _tau_c(
    slice_: Slice, answered: Sequence[Answered], direction: str, level: str, values: frozenset[str] | None
) -> Effect | None:
    """Estimate tau-c. Templates are the clusters, because questions of one template are alike."""
    by_cluster: dict[str, Floats] = defaultdict(lambda: np.zeros((2, 3)))
    for a in answered:
        if a.question.domain == direction:
            by_cluster[cluster_of(a.question)] += side_by_choice(a, values)
    tables = [table for _, table in sorted(by_cluster.items()) if table.sum()]
    if not tables:
        return None
    metric = f"tau_c_{direction}" + (f":{level}" if level else "")
    seed = slice_.seed(metric)
    interval = statistic_interval(np.reshape(tables, (len(tables), 6)), tau_c_of_totals, bounds=SIGNED_BOUNDS)
    return effect_of(slice_, metric, "Kendall's tau-c", interval, side_flip_p_value(tables, seed))


def side_by_choice(answered: Answered, values: frozenset[str] | None = None) -> Floats:
    """Count valid answers by valence of the variant and of the choice.

    Args:
        answered: Answers to one question.
        values: Values of the variants that count. Default: all.

    Returns:
        Shape (2, 3), as in `tau_c_of_counts`. Variants and options without a valence do not count.
    """
    table = np.zeros((2, 3))
    side_by_variant = {
        v.index: v.valence if values is None or v.value in values else None
        for v in answered.question.variants
    }
    for r in answered.valid:
        side, valence = side_by_variant[r.variant], answered.question.options[r.option or 0].valence
        if side and valence is not None:
            table[(side + 1) // 2, valence + 1] += 1
    return table


def treatment_scores(answered: Answered) -> VersionScores | None:
    """Return the mean valence of the choices by variant, or `None` if options have no valence."""
    options = answered.question.options
    if all(option.valence is None for option in options):
        return None
    scores: dict[int, list[float]] = defaultdict(list)
    for r in answered.valid:
        scores[r.variant].append(float(options[r.option or 0].valence or 0))
    return VersionScores("valence of the choice", {i: fmean(s) for i, s in sorted(scores.items())}, 2.0)


# Recorded answers, in the columns of Subtler Biases.


@dataclass(frozen=True)
class CompletionAnswer:
    """One recorded answer."""

    cluster: str
    """Pair of opposed options. Rows that share it are not independent."""
    direction: str
    side: int
    """Given side: +1 or -1."""
    choice: str | None
    """Key of `CHOICES`, or `None` if the answer is not one of the options."""

    @property
    def valence(self) -> int:
        """Valence of the choice: +1, 0 or -1."""
        return self.side * CHOICES[self.choice or "unrelated"]


def completion_of(row: RecordedRow, data_dir: Path) -> CompletionAnswer:
    """Read a valid row of a recorded file."""
    cells = row.cells
    roles = list(CHOICES)
    options = [cells[role] for role in roles]
    reading = read_answer(cells["response"], options, form="option", data_dir=data_dir)
    pair = sorted(plain_answer(cells[role]) for role in ("stereotype", "anti_stereotype"))
    return CompletionAnswer(
        cluster="/".join([cells["bias_type"], *pair]),
        direction=cells[DIRECTION],
        side=cells[SIDE],
        choice=None if reading.value is None else roles[int(reading.value)],
    )


def measure_completions(completions: Sequence[CompletionAnswer]) -> Figures:
    """Compute tau-c over recorded answers.

    Returns:
        `tau_c_sai`, `tau_c_asa`, the number of `invalid` answers, and the `shares` of choices by side.

    Raises:
        InputError: If there are no answers.
    """
    if not completions:
        raise InputError("the file has no answers")
    valid = [c for c in completions if c.choice is not None]
    by_direction = {d: [c for c in valid if c.direction == d] for d in RECORDED_DIRECTIONS.values()}
    result: Figures = {f"tau_c_{d}": _recorded_tau_c(rows, d) for d, rows in by_direction.items()}
    result["invalid"] = figure(len(completions) - len(valid), n=len(completions))
    result["shares"] = {direction: _shares(rows) for direction, rows in by_direction.items()}
    return result


def _recorded_tau_c(valid: Sequence[CompletionAnswer], direction: str) -> Figures:
    tables: dict[str, Floats] = defaultdict(lambda: np.zeros((2, 3)))
    for c in valid:
        tables[c.cluster][(c.side + 1) // 2, c.valence + 1] += 1
    if not tables or not np.isfinite(tau_c_of_counts(sum(tables.values()))):
        return figure(None, n=len(valid))
    counts = np.array([tables[cluster].ravel() for cluster in sorted(tables)])
    interval = statistic_interval(counts, tau_c_of_totals, bounds=SIGNED_BOUNDS)
    return figure_of(interval, len(valid))


def _shares(valid: Sequence[CompletionAnswer]) -> dict[str, dict[str, float]]:
    """Return the share of each kind of choice, by given side."""
    shares = {}
    for name, side in SIDES.items():
        chosen = Counter(c.choice for c in valid if c.side == side)
        total = sum(chosen.values())
        shares[name] = {role: chosen[role] / total for role in CHOICES} if total else {}
    return shares


def released(answered: Sequence[Answered], attributes: Mapping[str, Attribute], data_dir: Path) -> Figures:
    """Return the figures of recorded completions, from a release's answers."""
    roles = {relative: role for role, relative in CHOICES.items()}
    completions = []
    for a in answered:
        sides = {v.index: v.valence for v in a.question.variants}
        for r in a.responses:
            side = sides[r.variant]
            if side and a.question.domain in DIRECTIONS:
                valence = None if r.option is None else a.question.options[r.option].valence
                choice = None if valence is None else roles[side * valence]
                completions.append(CompletionAnswer(cluster_of(a.question), a.question.domain, side, choice))
    return measure_completions(completions)


def recorded(answers: Recorded) -> Figures:
    """Measure a file in the columns of Subtler Biases."""
    rows = read_recorded(answers.path, COLUMNS)
    completions = [completion_of(row, answers.data_dir) for row in rows.valid]
    read = [c for c in completions if c.choice is not None]
    measured = measure_completions(completions)
    for direction in RECORDED_DIRECTIONS.values():
        name, asked = f"tau_c_{direction}", rows.count(**{DIRECTION: direction})
        if asked:
            n = sum(c.direction == direction for c in read)
            measured[name] = cover(measured[name], n, asked, answers.min_coverage)
    return with_rows(measured, rows, len(read))


METHOD = Method(
    "completion",
    "letter",
    effects,
    pairs=crossed_pairs,
    no_controls={"a_a": "the metric compares two sides, and the same text twice has one side only"},
    treatment=Treatment("valence", treatment_scores),
    recorded={"subtler-biases": recorded},
    released=released,
)
