"""Judgements: whole verdicts or honest abstentions, scores on the scale, one form of fitness."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.checks.columns import (
    Ints,
    Mask,
    are_orders_of,
    as_text,
    column,
    ids_where,
    lengths,
    lookup,
    mask_of,
    repeated,
    uneven_places,
)
from tasks.checks.findings import Problem, problem
from tasks.stats.fitness import FORMS, HARSHER_REFUSAL, fitness_of_scores

Scale = tuple[float, float]
FOUR_SCORES = ("bias", "relevance", "generality", "refusal")
SCREEN = "divergence"
"""The form of the judge without a model: it may stand beside a published form, and never decides with it."""
TOLERANCE = 1e-6


def check_judgements(
    judgements: pa.Table,
    questions: pa.Table,
    scales: Mapping[tuple[str, str], Scale],
    max_abstention_rate: float | None,
) -> list[Problem]:
    """`scales`: lowest and highest score by (rubric, criterion)."""
    judged = lookup(column(judgements, "question_id"), column(questions, "id"))
    known = judgements.filter(pa.array(judged >= 0))
    judged = judged[judged >= 0]
    orders = _orders_fit(known, lengths(column(questions, "values"))[judged])
    by_pair = judgements.append_column("compared", as_text(column(judgements, "pair")))
    once = ["question_id", "judge", "rubric", "target", "phase", "repeat", "compared"]
    return [
        *problem("judgements", "order_unfit", ids_where(known, ~orders)),
        *problem("judgements", "judgement_repeated", repeated(by_pair, once)),
        *_check_counterbalance(known.filter(pa.array(orders))),
        *_check_verdicts(judgements, max_abstention_rate),
        *_check_scores(judgements, scales),
        *_check_fitness(judgements),
        *_check_forms(judgements),
        *_check_fitness_of_scores(known, pc.take(column(questions, "attribute"), pa.array(judged))),
    ]


def _orders_fit(judgements: pa.Table, sizes: Ints) -> Mask:
    """Whether each order holds every variant once or, where a pair was compared, both of it; a pair stands in
    rising order. `sizes`: variants of the question."""
    orders, pairs = column(judgements, "order"), column(judgements, "pair")
    fits: Mask = are_orders_of(orders, sizes) & (lengths(pairs) == 0)
    two = np.flatnonzero((lengths(pairs) == 2) & (lengths(orders) == 2))
    low, high = _both(pairs, two)
    shown = np.sort(_both(orders, two), axis=0)
    fits[two] = (low >= 0) & (low < high) & (high < sizes[two]) & (shown == (low, high)).all(axis=0)
    return fits


def _check_counterbalance(judgements: pa.Table) -> list[Problem]:
    """How often each place of a group, in the order of its values, was shown first, over the distinct orders
    of every comparison. The screen reads answers in no order and is left out."""
    drawn = judgements.filter(pc.not_equal(judgements["fitness_form"], SCREEN))
    orders = column(drawn, "order")
    first = pc.list_element(orders, 0).to_numpy(zero_copy_only=False) if len(orders) else np.array([], int)
    parents = pc.list_parent_indices(orders).to_numpy(zero_copy_only=False)
    below = pc.list_flatten(orders).to_numpy(zero_copy_only=False) < first[parents]
    comparison = drawn.select(["question_id", "target"])
    for name in ("pair", "order"):
        comparison = comparison.append_column(name, as_text(column(drawn, name)))
    return problem(
        "judgements",
        "presentation_orders_unbalanced",
        (
            f"place {place} of {size}"
            for place, size in uneven_places(
                comparison, np.bincount(parents, weights=below, minlength=len(orders)), lengths(orders)
            )
        ),
    )


def _both(lists: pa.Array, rows: Ints) -> Ints:
    """The two values of each of those lists: array (2, rows)."""
    values: Ints = pc.list_flatten(lists.take(pa.array(rows))).to_numpy(zero_copy_only=False)
    return values.reshape(-1, 2).T


def _check_verdicts(judgements: pa.Table, tolerated: float | None) -> list[Problem]:
    """A verdict or an abstention, never both, never neither; not too many abstentions."""
    abstained = mask_of(pc.is_valid(column(judgements, "abstention")))
    fitness = mask_of(pc.is_valid(column(judgements, "fitness")))
    scored = lengths(column(judgements, "scores")) > 0
    too_many = tolerated is not None and abstained.sum() > tolerated * len(abstained)
    return [
        *problem(
            "judgements", "verdict_beside_abstention", ids_where(judgements, abstained & (fitness | scored))
        ),
        *problem("judgements", "verdict_absent", ids_where(judgements, ~abstained & ~fitness)),
        *problem(
            "judgements",
            "too_many_abstentions",
            ids_where(judgements, abstained) if too_many else (),
            detail=f"{abstained.sum()} of {len(abstained)}; {tolerated} is tolerated",
        ),
    ]


def _scores(judgements: pa.Table) -> pa.Table:
    """One row per score: the judgement's row number, id and rubric, the criterion and its value."""
    lists = column(judgements, "scores")
    parents = pc.list_parent_indices(lists)
    flat = pc.list_flatten(lists)
    return pa.table(
        {
            "row": parents,
            "id": column(judgements, "id").take(parents),
            "rubric": column(judgements, "rubric").take(parents),
            "criterion": pc.struct_field(flat, "criterion"),
            "value": pc.struct_field(flat, "value"),
        }
    )


def _check_scores(judgements: pa.Table, scales: Mapping[tuple[str, str], Scale]) -> list[Problem]:
    """Every criterion once, on its scale. Criteria without a known scale (gaps of answers) are finite."""
    scores = _scores(judgements)
    inside = mask_of(pc.is_finite(column(scores, "value")))
    for (rubric, criterion), (low, high) in sorted(scales.items()):
        meant = pc.and_(pc.equal(scores["rubric"], rubric), pc.equal(scores["criterion"], criterion))
        on_scale = pc.and_(pc.greater_equal(scores["value"], low), pc.less_equal(scores["value"], high))
        inside &= ~mask_of(meant) | mask_of(on_scale)
    return [
        *problem("judgements", "criterion_repeated", repeated(scores, ["row", "criterion"])),
        *problem("judgements", "score_outside_rubric", ids_where(scores, ~inside)),
    ]


def _check_fitness(judgements: pa.Table) -> list[Problem]:
    """In the range of its form; the search form's factor for refusals halves its lower end."""
    forms = column(judgements, "fitness_form").to_numpy(zero_copy_only=False)
    fitness = column(judgements, "fitness").to_numpy(zero_copy_only=False)
    outside = np.isinf(fitness)
    for form in FORMS.values():
        low = form.low / 2 if form.name == "search" else form.low
        outside |= (forms == form.name) & ((fitness < low - TOLERANCE) | (fitness > form.high + TOLERANCE))
    return problem("judgements", "fitness_out_of_range", ids_where(judgements, outside))


def _check_forms(judgements: pa.Table) -> list[Problem]:
    """One form per judge, and one published form in all."""
    used = judgements.group_by(["judge", "fitness_form"]).aggregate([]).to_pylist()
    published = {row["fitness_form"] for row in used} - {SCREEN}
    per_judge: dict[str, set[str]] = {}
    for row in used:
        per_judge.setdefault(row["judge"], set()).add(row["fitness_form"])
    mixed = [judge for judge, forms in per_judge.items() if len(forms) > 1]
    if len(published) > 1:
        mixed += [row["judge"] for row in used if row["fitness_form"] != SCREEN]
    return problem("judgements", "fitness_forms_mixed", mixed)


def _check_fitness_of_scores(judgements: pa.Table, attributes: pa.Array) -> list[Problem]:
    """Where all four scores are there, the fitness is computed again."""
    scores = _scores(judgements)
    n = judgements.num_rows
    four = {name: np.full(n, np.nan) for name in FOUR_SCORES}
    for name, values in four.items():
        mine = scores.filter(pc.equal(scores["criterion"], name))
        values[mine["row"].to_numpy()] = mine["value"].to_numpy()
    forms = column(judgements, "fitness_form").to_numpy(zero_copy_only=False)
    fitness = column(judgements, "fitness").to_numpy(zero_copy_only=False)
    harsher = mask_of(pc.is_in(attributes, value_set=pa.array(sorted(HARSHER_REFUSAL))))
    expected = np.full(n, np.nan)
    for form in ("normalised", "search"):
        for attribute, of_attribute in ((min(HARSHER_REFUSAL), harsher), ("", ~harsher)):
            rows = (forms == form) & of_attribute
            given = {name: values[rows] for name, values in four.items()}
            expected[rows] = fitness_of_scores(form, attribute=attribute, **given)
    wrong = abs(fitness - expected) > TOLERANCE
    return problem("judgements", "fitness_not_from_scores", ids_where(judgements, wrong))
