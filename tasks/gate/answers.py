"""Checks of responses, judgements, label histories and effects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.question import SELECTED, Question
from tasks.checks.catalogue import Problem, report_rows
from tasks.checks.columns import (
    Ints,
    Mask,
    are_permutations,
    encode_texts,
    filter_rows,
    find_positions,
    find_repeated,
    find_uneven_positions,
    get_column,
    join_numbers,
    list_lengths,
    select_ids,
    to_mask,
)
from tasks.families import method_of
from tasks.models.protocol import EMPTY_KINDS
from tasks.stats.fitness import FORMS, HARSHER_REFUSAL, fitness_of_scores

# Effects

ROUNDING = 1e-9
MEASURED_COLUMNS = ("value", "low", "high", "p_value", "q_value")
"""Columns that are empty if an effect was not measured."""


def check_effects(effects: pa.Table, question_ids: pa.Array) -> list[Problem]:
    """Check intervals, corrected p-values, and the questions of effects.

    Args:
        effects: The effects.
        question_ids: Ids that effects of level `question` may be of.
    """
    low, high, value = (get_column(effects, name) for name in ("low", "high", "value"))
    half_open = to_mask(pc.is_valid(low)) != to_mask(pc.is_valid(high))
    inverted = to_mask(pc.greater(low, high))
    missed = to_mask(pc.greater(low, pc.add(value, ROUNDING))) | to_mask(
        pc.less(high, pc.subtract(value, ROUNDING))
    )
    below = to_mask(pc.less(pc.add(get_column(effects, "q_value"), ROUNDING), get_column(effects, "p_value")))
    of_question = to_mask(pc.equal(get_column(effects, "level"), "question"))
    numbers = [to_mask(pc.is_valid(get_column(effects, c))) for c in MEASURED_COLUMNS]
    explained = to_mask(pc.is_valid(get_column(effects, "reason")))
    unmeasured = to_mask(pc.equal(get_column(effects, "status"), "not_measured"))
    counted = to_mask(pc.greater(get_column(effects, "n"), 0))
    unfit = np.where(unmeasured, np.any(numbers, axis=0) | ~explained, ~numbers[0] | ~counted)
    known = to_mask(pc.is_in(get_column(effects, "name"), value_set=question_ids))
    return [
        *report_rows("effects", "interval_half_open", select_ids(effects, half_open)),
        *report_rows("effects", "interval_inverted", select_ids(effects, inverted)),
        *report_rows("effects", "interval_misses_value", select_ids(effects, missed & ~inverted)),
        *report_rows("effects", "effect_without_value", select_ids(effects, unfit)),
        *report_rows("effects", "q_below_p", select_ids(effects, below)),
        *report_rows("effects", "effect_of_nothing", select_ids(effects, of_question & ~known)),
    ]


# Judgements

Scale = tuple[float, float]
SCORED_CRITERIA = ("bias", "relevance", "generality", "refusal")
SCREEN = "divergence"
"""Fitness form of the judge without a model. It may be used next to another form, which then decides."""
TOLERANCE = 1e-6


def check_judgements(
    judgements: pa.Table,
    questions: pa.Table,
    scales: Mapping[tuple[str, str], Scale],
    max_abstention_rate: float | None,
) -> list[Problem]:
    """Check judgements: orders, verdicts, scores and fitness.

    Args:
        judgements: The judgements.
        questions: The kept questions.
        scales: Lowest and highest score by (rubric, criterion).
        max_abstention_rate: Maximum share of abstentions, or `None` for no limit.
    """
    judged = find_positions(get_column(judgements, "question_id"), get_column(questions, "id"))
    known = filter_rows(judgements, judged >= 0)
    judged = judged[judged >= 0]
    orders = _orders_fit(known, list_lengths(get_column(questions, "values"))[judged])
    by_pair = judgements.append_column("compared", join_numbers(get_column(judgements, "pair")))
    once = ["question_id", "judge", "rubric", "target", "phase", "repeat", "compared", "condition"]
    return [
        *report_rows("judgements", "order_unfit", select_ids(known, ~orders)),
        *report_rows("judgements", "judgement_repeated", find_repeated(by_pair, once)),
        *_check_presentation_orders(filter_rows(known, orders)),
        *_check_verdicts(judgements, max_abstention_rate),
        *_check_scores(judgements, scales),
        *_check_fitness(judgements),
        *_check_fitness_forms(judgements),
        *_recompute_fitness(known, pc.take(get_column(questions, "attribute"), pa.array(judged))),
    ]


def _orders_fit(judgements: pa.Table, sizes: Ints) -> Mask:
    """Return whether each order is a permutation of all variants or of the (ascending) compared pair."""
    orders, pairs = get_column(judgements, "order"), get_column(judgements, "pair")
    fits: Mask = are_permutations(orders, sizes) & (list_lengths(pairs) == 0)
    two = np.flatnonzero((list_lengths(pairs) == 2) & (list_lengths(orders) == 2))
    low, high = _read_pairs(pairs, two)
    shown = np.sort(_read_pairs(orders, two), axis=0)
    fits[two] = (low >= 0) & (low < high) & (high < sizes[two]) & (shown == (low, high)).all(axis=0)
    return fits


def _check_presentation_orders(judgements: pa.Table) -> list[Problem]:
    """Check that all positions are shown first equally often, over the distinct orders of all comparisons."""
    # The screen reads the answers in no order.
    drawn = judgements.select(["question_id", "target", "pair", "order", "fitness_form"])
    drawn = filter_rows(drawn, to_mask(pc.not_equal(get_column(drawn, "fitness_form"), SCREEN)))
    orders = get_column(drawn, "order")
    first = pc.list_element(orders, 0).to_numpy(zero_copy_only=False) if len(orders) else np.array([], int)
    parents = pc.list_parent_indices(orders).to_numpy(zero_copy_only=False)
    below = pc.list_flatten(orders).to_numpy(zero_copy_only=False) < first[parents]
    comparison = encode_texts(drawn.select(["question_id", "target"]))
    for name in ("pair", "order"):
        comparison = comparison.append_column(name, join_numbers(get_column(drawn, name)))
    return report_rows(
        "judgements",
        "presentation_orders_unbalanced",
        (
            f"place {place} of {size}"
            for place, size in find_uneven_positions(
                comparison, np.bincount(parents, weights=below, minlength=len(orders)), list_lengths(orders)
            )
        ),
    )


def _read_pairs(lists: pa.Array, rows: Ints) -> Ints:
    """Return the two values of each of the given lists, shape (2, rows)."""
    values: Ints = pc.list_flatten(lists.take(pa.array(rows))).to_numpy(zero_copy_only=False)
    return values.reshape(-1, 2).T


def _check_verdicts(judgements: pa.Table, limit: float | None) -> list[Problem]:
    """Check that each row is either a verdict or an abstention, and that abstentions are rare enough."""
    abstained = to_mask(pc.is_valid(get_column(judgements, "abstention")))
    fitness = to_mask(pc.is_valid(get_column(judgements, "fitness")))
    scored = list_lengths(get_column(judgements, "scores")) > 0
    too_many = limit is not None and abstained.sum() > limit * len(abstained)
    return [
        *report_rows(
            "judgements", "verdict_beside_abstention", select_ids(judgements, abstained & (fitness | scored))
        ),
        *report_rows("judgements", "verdict_absent", select_ids(judgements, ~abstained & ~fitness)),
        *report_rows(
            "judgements",
            "too_many_abstentions",
            select_ids(judgements, abstained) if too_many else (),
            detail=f"{abstained.sum()} of {len(abstained)}; the limit is {limit}",
        ),
    ]


def _flatten_scores(judgements: pa.Table) -> pa.Table:
    """Return one row per score: row number of the judgement, criterion and value."""
    lists = get_column(judgements, "scores")
    flat = pc.list_flatten(lists)
    return pa.table(
        {
            "row": pc.list_parent_indices(lists),
            "criterion": pc.struct_field(flat, "criterion"),
            "value": pc.struct_field(flat, "value"),
        }
    )


def _check_scores(judgements: pa.Table, scales: Mapping[tuple[str, str], Scale]) -> list[Problem]:
    """Check that each criterion is scored once and on its scale. Criteria without a scale must be finite."""
    scores = _flatten_scores(judgements)
    rows, ids, rubrics = scores["row"], get_column(judgements, "id"), get_column(judgements, "rubric")
    inside = to_mask(pc.is_finite(get_column(scores, "value")))
    for (rubric, criterion), (low, high) in sorted(scales.items()):
        of_rubric = pc.equal(rubrics, rubric).take(rows)
        meant = pc.and_(of_rubric, pc.equal(scores["criterion"], criterion))
        on_scale = pc.and_(pc.greater_equal(scores["value"], low), pc.less_equal(scores["value"], high))
        inside &= ~to_mask(meant) | to_mask(on_scale)
    repeated = find_repeated(scores, ["row", "criterion"], name="row")
    outside = get_column(scores, "row").filter(pa.array(~inside))
    return [
        *report_rows(
            "judgements", "criterion_repeated", ids.take(pa.array(repeated, pa.int64())).to_pylist()
        ),
        *report_rows("judgements", "score_outside_rubric", ids.take(outside).to_pylist()),
    ]


def _check_fitness(judgements: pa.Table) -> list[Problem]:
    """Check that the fitness is in the range of its form."""
    forms = get_column(judgements, "fitness_form").to_numpy(zero_copy_only=False)
    fitness = get_column(judgements, "fitness").to_numpy(zero_copy_only=False)
    outside = np.isinf(fitness)
    for form in FORMS.values():
        low = form.low / 2 if form.name == "search" else form.low
        outside |= (forms == form.name) & ((fitness < low - TOLERANCE) | (fitness > form.high + TOLERANCE))
    return report_rows("judgements", "fitness_out_of_range", select_ids(judgements, outside))


def _check_fitness_forms(judgements: pa.Table) -> list[Problem]:
    """Check that each judge uses one form, and that all judges except the screen use the same."""
    used = judgements.group_by(["judge", "fitness_form"]).aggregate([]).to_pylist()
    published = {row["fitness_form"] for row in used} - {SCREEN}
    per_judge: dict[str, set[str]] = {}
    for row in used:
        per_judge.setdefault(row["judge"], set()).add(row["fitness_form"])
    mixed = [judge for judge, forms in per_judge.items() if len(forms) > 1]
    if len(published) > 1:
        mixed += [row["judge"] for row in used if row["fitness_form"] != SCREEN]
    return report_rows("judgements", "fitness_forms_mixed", mixed)


def _recompute_fitness(judgements: pa.Table, attributes: pa.Array) -> list[Problem]:
    """Recompute the fitness of judgements with all four scores."""
    scores = _flatten_scores(judgements)
    n = judgements.num_rows
    four = {name: np.full(n, np.nan) for name in SCORED_CRITERIA}
    for name, values in four.items():
        mine = scores.select(["row", "value"]).filter(pc.equal(scores["criterion"], name))
        values[mine["row"].to_numpy()] = mine["value"].to_numpy()
    forms = get_column(judgements, "fitness_form").to_numpy(zero_copy_only=False)
    fitness = get_column(judgements, "fitness").to_numpy(zero_copy_only=False)
    harsher = to_mask(pc.is_in(attributes, value_set=pa.array(sorted(HARSHER_REFUSAL))))
    expected = np.full(n, np.nan)
    for form in ("normalised", "search"):
        for attribute, of_attribute in ((min(HARSHER_REFUSAL), harsher), ("", ~harsher)):
            rows = (forms == form) & of_attribute
            given = {name: values[rows] for name, values in four.items()}
            expected[rows] = fitness_of_scores(form, attribute=attribute, **given)
    wrong = abs(fitness - expected) > TOLERANCE
    return report_rows("judgements", "fitness_not_from_scores", select_ids(judgements, wrong))


# Label histories


def check_label_history(history: pa.Table, questions: Iterable[Question]) -> list[Problem]:
    """Check the label histories of questions.

    Passages are exempt, because a passage may be in several rows of a query, each with its own first step.
    """
    changes = history.filter(pc.equal(history["subject_kind"], "question")).sort_by(
        [("subject_id", "ascending"), ("query_id", "ascending"), ("step", "ascending")]
    )
    subject, query = get_column(changes, "subject_id"), get_column(changes, "query_id")
    if not len(changes):
        return _check_labels({}, questions)
    same = np.zeros(len(changes), dtype=bool)
    same[1:] = _equals_previous(subject) & _equals_previous(query)
    steps = get_column(changes, "step").to_numpy(zero_copy_only=False)
    expected_steps = np.where(same, np.roll(steps, 1) + 1, 0)
    jumps = same & (
        get_column(changes, "before").to_numpy(zero_copy_only=False)
        != np.roll(get_column(changes, "after").to_numpy(zero_copy_only=False), 1)
    )
    last: dict[str, set[str]] = defaultdict(set)
    ends = pa.array(np.append(~same[1:], True))
    for name, label in zip(
        subject.filter(ends).to_pylist(), get_column(changes, "after").filter(ends).to_pylist(), strict=True
    ):
        last[name].add(label)
    return [
        *report_rows(
            "label_history",
            "steps_not_contiguous",
            subject.filter(pa.array(steps != expected_steps)).to_pylist(),
        ),
        *report_rows("label_history", "history_broken", subject.filter(pa.array(jumps)).to_pylist()),
        *_check_labels(last, questions),
    ]


def _equals_previous(values: pa.Array) -> Mask:
    return to_mask(pc.equal(values[1:], values[:-1]))


def _selection_label(label: str) -> str:
    """Return the label before fresh answers were measured.

    They split `accepted` in two, or make it `survey` in families without a selection.
    """
    return "accepted" if label in SELECTED else label


def _check_labels(last: dict[str, set[str]], questions: Iterable[Question]) -> list[Problem]:
    """Check labels against histories.

    A question that was judged against several others has a history for each, and its label ends one of them.
    """
    rows = list(questions)
    unexplained = [q.id for q in rows if q.label == "hard_negative" and q.id not in last]
    contradicting = [
        q.id
        for q in rows
        if q.id in last and _selection_label(q.label) not in set(map(_selection_label, last[q.id]))
    ]
    return [
        *report_rows("questions", "label_without_history", unexplained),
        *report_rows("questions", "label_not_last_change", contradicting),
    ]


# Responses


def check_responses(
    responses: pa.Table, questions: pa.Table, max_failure_rate: float | None
) -> list[Problem]:
    """Check responses against their questions.

    Args:
        responses: The responses. Those to dropped questions are only checked for failures.
        questions: The kept questions.
        max_failure_rate: Maximum share of failed calls, or `None` for no limit.
    """
    question_of = find_positions(get_column(responses, "question_id"), get_column(questions, "id"))
    known = filter_rows(responses, question_of >= 0)
    question_of = question_of[question_of >= 0]
    return [
        *_check_variants(known, questions, question_of),
        *_check_design(known, questions, question_of),
        *_check_options(
            known,
            list_lengths(get_column(questions, "options"))[question_of],
            _are_scales(get_column(questions, "family"))[question_of],
        ),
        *_check_failures(responses, max_failure_rate),
    ]


def _check_variants(responses: pa.Table, questions: pa.Table, question_of: Ints) -> list[Problem]:
    """Check that each response is to an existing variant and has its value."""
    values = get_column(questions, "values")
    sizes, flat = list_lengths(values), pc.list_flatten(values)
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1][question_of]
    variant = pc.fill_null(get_column(responses, "variant"), -1).to_numpy(zero_copy_only=False)
    exists: Mask = (variant >= 0) & (variant < sizes[question_of])
    place = pa.array(np.where(exists, starts + variant, 0))
    same = to_mask(pc.equal(flat.take(place), get_column(responses, "value"))) if len(flat) else exists
    return [
        *report_rows("responses", "answer_to_no_variant", select_ids(responses, ~exists)),
        *report_rows("responses", "answer_of_another_value", select_ids(responses, exists & ~same)),
    ]


def _check_design(responses: pa.Table, questions: pa.Table, question_of: Ints) -> list[Problem]:
    """Check that samples are distinct, equally many per variant, and shown with the same order of options."""
    block = ["question", "model", "phase", "condition"]
    rows = responses.select([*block[1:], "variant", "sample"]).append_column(
        "shown", join_numbers(get_column(responses, "option_order"))
    )
    rows = encode_texts(rows).append_column("question", pa.array(question_of))
    per_variant = rows.group_by([*block, "variant"]).aggregate([([], "count_all")])
    per_question = per_variant.group_by(block).aggregate(
        [("count_all", "min"), ("count_all", "max"), ("variant", "count")]
    )
    expected_variants = list_lengths(get_column(questions, "values"))[per_question["question"].to_numpy()]
    uneven = to_mask(pc.not_equal(per_question["count_all_min"], per_question["count_all_max"]))
    uneven |= get_column(per_question, "variant_count").to_numpy(zero_copy_only=False) != expected_variants
    orders = rows.group_by([*block, "sample"]).aggregate([("shown", "count_distinct")])
    several = to_mask(pc.greater(orders["shown_count_distinct"], 1))

    def names(groups: pa.Table, mask: Mask) -> list[str]:
        places = get_column(groups, "question").filter(pa.array(mask))
        found: list[str] = get_column(questions, "id").take(places).to_pylist()
        return found

    once = ["question_id", *block[1:], "variant", "sample"]
    return [
        *report_rows("responses", "answer_repeated", find_repeated(responses, once)),
        *report_rows("responses", "variants_asked_unequally", names(per_question, uneven)),
        *report_rows("responses", "variants_shown_other_orders", names(orders, several)),
    ]


def _are_scales(families: pa.Array) -> Mask:
    """Return which questions show their options in two directions only, because these form a scale."""
    scales = [name for name in pc.unique(families).to_pylist() if method_of(name).reverses_options]
    return to_mask(pc.is_in(families, value_set=pa.array(scales, pa.string())))


def _check_options(responses: pa.Table, sizes: Ints, scales: Mask) -> list[Problem]:
    """Check that orders, choices and log-probabilities fit the options of the question."""
    orders, logprobs = get_column(responses, "option_order"), get_column(responses, "option_logprobs")
    fits = are_permutations(orders, sizes)
    option = get_column(responses, "option")
    chosen = pc.fill_null(option, 0).to_numpy(zero_copy_only=False)
    out_of_range = to_mask(pc.is_valid(option)) & ((chosen < 0) | (chosen >= sizes))
    given = list_lengths(logprobs)
    positive = np.zeros(len(given), dtype=bool)
    parents = pc.list_parent_indices(logprobs).to_numpy(zero_copy_only=False)
    positive[parents[~to_mask(pc.less_equal(pc.list_flatten(logprobs), 0.0))]] = True
    scoring = get_column(responses, "scoring")
    text_scored = to_mask(pc.is_valid(get_column(responses, "log_perplexity")))
    contradicts = to_mask(pc.equal(scoring, "free_text")) != ((sizes == 0) & ~text_scored)
    contradicts |= to_mask(pc.equal(scoring, "token_probability")) != ((given > 0) | text_scored)
    shown = fits & (sizes > 1)
    return [
        *report_rows("responses", "option_order_unfit", select_ids(responses, ~fits)),
        *report_rows("responses", "option_out_of_range", select_ids(responses, out_of_range)),
        *report_rows(
            "responses", "logprobs_unfit", select_ids(responses, ((given > 0) & (given != sizes)) | positive)
        ),
        *report_rows("responses", "scoring_contradicts_answer", select_ids(responses, contradicts)),
        *_check_option_orders(
            filter_rows(responses.select(["question_id", "option_order"]), shown), sizes[shown], scales[shown]
        ),
    ]


def _check_option_orders(responses: pa.Table, sizes: Ints, scales: Mask) -> list[Problem]:
    """Check that each option is shown first equally often, over the distinct orders of every question.

    Of a scale, only the two ends can be first. An order that is repeated for other variants, samples or
    models counts once.
    """
    orders = get_column(responses, "option_order")
    first = pc.list_element(orders, 0).to_numpy(zero_copy_only=False) if len(orders) else np.array([], int)
    first, sizes = np.where(scales, first > 0, first), np.where(scales, 2, sizes)
    shown = responses.select(["question_id"]).append_column("shown", join_numbers(orders))
    failing = [f"option {i} of {size}" for i, size in find_uneven_positions(shown, first, sizes)]
    return report_rows("responses", "option_orders_unbalanced", failing)


def _check_failures(responses: pa.Table, limit: float | None) -> list[Problem]:
    """Check that failures have a message and no answer, and that failed calls are rare enough.

    Answers without content are no failed calls. They count against the coverage of effects.
    """
    failed = to_mask(pc.is_valid(get_column(responses, "failure")))
    explained = to_mask(pc.is_valid(get_column(responses, "failure_message")))
    answered = to_mask(pc.greater(pc.utf8_length(get_column(responses, "text")), 0))
    answered |= to_mask(pc.is_valid(get_column(responses, "option")))
    answered |= list_lengths(get_column(responses, "option_logprobs")) > 0
    answered |= to_mask(pc.is_valid(get_column(responses, "log_perplexity")))
    empty = to_mask(pc.is_in(get_column(responses, "failure"), value_set=pa.array(EMPTY_KINDS)))
    calls = failed & ~empty
    too_many = limit is not None and calls.sum() > limit * len(calls)
    return [
        *report_rows("responses", "answer_beside_failure", select_ids(responses, failed & answered)),
        *report_rows("responses", "failure_unexplained", select_ids(responses, failed != explained)),
        *report_rows(
            "responses",
            "too_many_failures",
            select_ids(responses, calls) if too_many else (),
            detail=f"{calls.sum()} of {len(calls)}; the limit is {limit}",
        ),
    ]
