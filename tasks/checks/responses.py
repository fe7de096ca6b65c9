"""Responses against the questions that they answer: vectorised, because there are many."""

from __future__ import annotations

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
        *_check_counterbalance(responses.filter(pa.array(fits & (sizes > 1))), sizes[fits & (sizes > 1)]),
    ]


def _check_counterbalance(responses: pa.Table, sizes: Ints) -> list[Problem]:
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
