"""Checks of responses, judgements, effects and label histories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.question import Question
from tasks.checks.catalogue import Problem, problem
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
from tasks.stats.fitness import FORMS, HARSHER_REFUSAL, fitness_of_scores

# Effects: intervals around their value, corrected p-values, questions that exist.


ROUNDING = 1e-9


def check_effects(effects: pa.Table, question_ids: pa.Array) -> list[Problem]:
    """`question_ids`: what an effect of level `question` may be of."""
    low, high, value = (column(effects, name) for name in ("low", "high", "value"))
    half_open = mask_of(pc.is_valid(low)) != mask_of(pc.is_valid(high))
    inverted = mask_of(pc.greater(low, high))
    missed = mask_of(pc.greater(low, pc.add(value, ROUNDING))) | mask_of(
        pc.less(high, pc.subtract(value, ROUNDING))
    )
    below = mask_of(pc.less(pc.add(column(effects, "q_value"), ROUNDING), column(effects, "p_value")))
    of_question = mask_of(pc.equal(column(effects, "level"), "question"))
    known = mask_of(pc.is_in(column(effects, "name"), value_set=question_ids))
    return [
        *problem("effects", "interval_half_open", ids_where(effects, half_open)),
        *problem("effects", "interval_inverted", ids_where(effects, inverted)),
        *problem("effects", "interval_misses_value", ids_where(effects, missed & ~inverted)),
        *problem("effects", "q_below_p", ids_where(effects, below)),
        *problem("effects", "effect_of_nothing", ids_where(effects, of_question & ~known)),
    ]


# Judgements: whole verdicts or honest abstentions, scores on the scale, one form of fitness.


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


# Labels and their history: steps without gaps, each change from where the last one ended.


def check_label_history(history: pa.Table, questions: Iterable[Question]) -> list[Problem]:
    """The histories of questions. A passage may stand in several rows of one query, each with its own first
    step, so its steps tell nothing."""
    changes = history.filter(pc.equal(history["subject_kind"], "question")).sort_by(
        [("subject_id", "ascending"), ("query_id", "ascending"), ("step", "ascending")]
    )
    subject, query = column(changes, "subject_id"), column(changes, "query_id")
    if not len(changes):
        return _check_labels({}, questions)
    same = np.zeros(len(changes), dtype=bool)
    same[1:] = _equal_to_last(subject) & _equal_to_last(query)
    steps = column(changes, "step").to_numpy(zero_copy_only=False)
    wanted = np.where(same, np.roll(steps, 1) + 1, 0)
    jumps = same & (
        column(changes, "before").to_numpy(zero_copy_only=False)
        != np.roll(column(changes, "after").to_numpy(zero_copy_only=False), 1)
    )
    last: dict[str, set[str]] = defaultdict(set)
    ends = pa.array(np.append(~same[1:], True))
    for name, label in zip(
        subject.filter(ends).to_pylist(), column(changes, "after").filter(ends).to_pylist(), strict=True
    ):
        last[name].add(label)
    return [
        *problem(
            "label_history", "steps_not_contiguous", subject.filter(pa.array(steps != wanted)).to_pylist()
        ),
        *problem("label_history", "history_broken", subject.filter(pa.array(jumps)).to_pylist()),
        *_check_labels(last, questions),
    ]


def _equal_to_last(values: pa.Array) -> Mask:
    return mask_of(pc.equal(values[1:], values[:-1]))


def _check_labels(last: dict[str, set[str]], questions: Iterable[Question]) -> list[Problem]:
    """A question that was judged against several has a history for each: its label is one of their ends."""
    rows = list(questions)
    unexplained = [q.id for q in rows if q.label == "hard_negative" and q.id not in last]
    contradicting = [q.id for q in rows if q.id in last and q.label not in last[q.id]]
    return [
        *problem("questions", "label_without_history", unexplained),
        *problem("questions", "label_not_last_change", contradicting),
    ]


# Responses against the questions that they answer: vectorised, because there are many.


def check_responses(
    responses: pa.Table, questions: pa.Table, max_failure_rate: float | None
) -> list[Problem]:
    """Rows whose question is not at hand (it was dropped) are left to the reference check."""
    asked = lookup(column(responses, "question_id"), column(questions, "id"))
    known = responses.filter(pa.array(asked >= 0))
    asked = asked[asked >= 0]
    return [
        *_check_variants(known, questions, asked),
        *_check_design(known, questions, asked),
        *_check_options(known, lengths(column(questions, "options"))[asked]),
        *_check_failures(responses, max_failure_rate),
    ]


def _check_variants(responses: pa.Table, questions: pa.Table, asked: Ints) -> list[Problem]:
    """Every response answers a variant that exists, and names that variant's value."""
    values = column(questions, "values")
    sizes, flat = lengths(values), pc.list_flatten(values)
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1][asked]
    variant = pc.fill_null(column(responses, "variant"), -1).to_numpy(zero_copy_only=False)
    exists: Mask = (variant >= 0) & (variant < sizes[asked])
    place = pa.array(np.where(exists, starts + variant, 0))
    same = mask_of(pc.equal(flat.take(place), column(responses, "value"))) if len(flat) else exists
    return [
        *problem("responses", "answer_to_no_variant", ids_where(responses, ~exists)),
        *problem("responses", "answer_of_another_value", ids_where(responses, exists & ~same)),
    ]


def _check_design(responses: pa.Table, questions: pa.Table, asked: Ints) -> list[Problem]:
    """No sample twice; as many samples of every variant; the same order of options for all variants."""
    block = ["question_id", "model", "phase", "condition"]
    shown = responses.append_column("shown", as_text(column(responses, "option_order")))
    per_variant = responses.group_by([*block, "variant"]).aggregate([([], "count_all")])
    per_question = per_variant.group_by(block).aggregate(
        [("count_all", "min"), ("count_all", "max"), ("variant", "count")]
    )
    sizes = lengths(column(questions, "values"))
    wanted = sizes[lookup(column(per_question, "question_id"), column(questions, "id"))]
    uneven = mask_of(pc.not_equal(per_question["count_all_min"], per_question["count_all_max"]))
    uneven |= column(per_question, "variant_count").to_numpy(zero_copy_only=False) != wanted
    orders = shown.group_by([*block, "sample"]).aggregate([("shown", "count_distinct")])
    several = mask_of(pc.greater(orders["shown_count_distinct"], 1))
    return [
        *problem("responses", "answer_repeated", repeated(responses, [*block, "variant", "sample"])),
        *problem("responses", "variants_asked_unequally", ids_where(per_question, uneven, "question_id")),
        *problem("responses", "variants_shown_other_orders", ids_where(orders, several, "question_id")),
    ]


def _check_options(responses: pa.Table, sizes: Ints) -> list[Problem]:
    """Orders, choices and log-probabilities fit the question's options."""
    orders, logprobs = column(responses, "option_order"), column(responses, "option_logprobs")
    fits = are_orders_of(orders, sizes)
    option = column(responses, "option")
    chosen = pc.fill_null(option, 0).to_numpy(zero_copy_only=False)
    out_of_range = mask_of(pc.is_valid(option)) & ((chosen < 0) | (chosen >= sizes))
    given = lengths(logprobs)
    positive = np.zeros(len(given), dtype=bool)
    parents = pc.list_parent_indices(logprobs).to_numpy(zero_copy_only=False)
    positive[parents[~mask_of(pc.less_equal(pc.list_flatten(logprobs), 0.0))]] = True
    scoring = column(responses, "scoring")
    text_scored = mask_of(pc.is_valid(column(responses, "log_perplexity")))
    contradicts = mask_of(pc.equal(scoring, "free_text")) != ((sizes == 0) & ~text_scored)
    contradicts |= mask_of(pc.equal(scoring, "token_probability")) != ((given > 0) | text_scored)
    return [
        *problem("responses", "option_order_unfit", ids_where(responses, ~fits)),
        *problem("responses", "option_out_of_range", ids_where(responses, out_of_range)),
        *problem(
            "responses", "logprobs_unfit", ids_where(responses, ((given > 0) & (given != sizes)) | positive)
        ),
        *problem("responses", "scoring_contradicts_answer", ids_where(responses, contradicts)),
        *_check_counterbalance_responses(
            responses.filter(pa.array(fits & (sizes > 1))), sizes[fits & (sizes > 1)]
        ),
    ]


def _check_counterbalance_responses(responses: pa.Table, sizes: Ints) -> list[Problem]:
    """How often each option stands first, over the distinct orders of every question: an order that is
    repeated for other variants, samples or models counts once. Expected is the same share for all."""
    orders = column(responses, "option_order")
    first = pc.list_element(orders, 0).to_numpy(zero_copy_only=False) if len(orders) else np.array([], int)
    shown = responses.select(["question_id"]).append_column("shown", as_text(orders))
    failing = [f"option {i} of {size}" for i, size in uneven_places(shown, first, sizes)]
    return problem("responses", "option_orders_unbalanced", failing)


def _check_failures(responses: pa.Table, tolerated: float | None) -> list[Problem]:
    """A failure says why and holds no answer; there are not too many."""
    failed = mask_of(pc.is_valid(column(responses, "failure")))
    explained = mask_of(pc.is_valid(column(responses, "failure_message")))
    answered = mask_of(pc.greater(pc.utf8_length(column(responses, "text")), 0))
    answered |= mask_of(pc.is_valid(column(responses, "option")))
    answered |= lengths(column(responses, "option_logprobs")) > 0
    answered |= mask_of(pc.is_valid(column(responses, "log_perplexity")))
    too_many = tolerated is not None and failed.sum() > tolerated * len(failed)
    return [
        *problem("responses", "answer_beside_failure", ids_where(responses, failed & answered)),
        *problem("responses", "failure_unexplained", ids_where(responses, failed != explained)),
        *problem(
            "responses",
            "too_many_failures",
            ids_where(responses, failed) if too_many else (),
            detail=f"{failed.sum()} of {len(failed)}; {tolerated} is tolerated",
        ),
    ]
