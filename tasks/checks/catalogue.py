"""The catalogue of checks, and the problems that they report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from schemas.gate import FailingRow, Finding, Severity, SuiteResult, Validation
from schemas.tables import content_id


class Check(NamedTuple):
    """A check of the gate. An error stops a release. A warning is only reported."""

    severity: Severity
    description: str
    """The failure, as a sentence for people."""


SHAPE_CHECKS: dict[str, Check] = {
    "column_absent": Check("error", "a column of the table is missing"),
    "column_of_another_type": Check("error", "a column does not have the type that the table declares"),
    "column_unknown": Check("warning", "a column is not declared by the table"),
    "not_utf8": Check("error", "the file contains bytes that are not UTF-8 text"),
}
ROW_CHECKS: dict[str, Check] = {
    "row_unreadable": Check("error", "the row is not a valid record"),
    "table_empty": Check("error", "the table has no rows"),
}
VALUE_CHECKS: dict[str, Check] = {
    "key_repeated": Check("error", "several rows have the same id"),
    "id_malformed": Check("error", "the id is not a prefix followed by 16 hexadecimal digits"),
    "value_missing": Check("error", "a required value is missing"),
    "value_not_allowed": Check("error", "the column does not allow this value"),
    "out_of_range": Check("error", "the number is outside the range of the column"),
    "text_empty": Check("error", "the text is empty"),
    "text_too_long": Check("warning", "the text is unusually long"),
    "language_malformed": Check("error", "the language is not a language tag such as `en` or `pt-BR`"),
    "not_json": Check("error", "the text is not valid JSON"),
    "reference_broken": Check("error", "the id refers to a row that does not exist"),
    "garbled_text": Check("error", "the text was decoded wrongly or contains control characters"),
    "personal_data_in_dropped": Check(
        "warning", "a dropped row contains an e-mail address, a phone number or a web address"
    ),
    "garbled_answer": Check("warning", "the answer was decoded wrongly or contains control characters"),
    "own_expectation": Check("error", "the rows fail an expectation of a suite of the recipe"),
    "slot_unfilled": Check("error", "the text contains an unfilled slot or placeholder"),
    "personal_data": Check("error", "the text contains an e-mail address, a phone number or a web address"),
    "personal_data_in_answer": Check(
        "warning", "the answer contains an e-mail address, a phone number or a web address"
    ),
}
QUESTION_CHECKS: dict[str, Check] = {
    "id_is_not_content": Check("error", "the id of the question does not follow from its content"),
    "values_repeated": Check("error", "a question that is not an A/A control repeats a value"),
    "value_unknown": Check("error", "the attribute has no value with this name"),
    "attribute_unknown": Check("error", "no attribute has this name"),
    "variant_missing": Check(
        "error", "the question does not have exactly one variant per value, in the order of the values"
    ),
    "template_broken": Check("error", "the slots of the template are malformed or do not fit the values"),
    "template_without_slot": Check("error", "the template has no slot, so its variants cannot differ"),
    "variants_differ_outside_slots": Check(
        "error", "the variants differ outside the slots: they are not the expansion of the template"
    ),
    "variants_alike": Check("error", "two variants have different values but the same text"),
    "a_a_differs": Check(
        "error", "the values or texts of an A/A control differ, so its true effect is not zero"
    ),
    "label_contradicts_control": Check(
        "error", "a control lacks the label `control`, or another question has it"
    ),
    "question_repeated": Check("error", "two questions have the same texts and values"),
    "cells_uncovered": Check(
        "error",
        "the questions cover fewer combinations of domain, framing, attribute, style and request than "
        "`coverage.min`",
    ),
    "options_unfit": Check("error", "the number or the roles of the answer options do not fit the family"),
    "options_alike": Check("error", "two answer options of a question have the same text"),
    "text_in_another_language": Check(
        "warning", "the text appears to be in another language than the question declares"
    ),
    "lineage_missing": Check("error", "an evolved question does not name the operator that produced it"),
}
FRAMING_CHECKS: dict[str, Check] = {
    "twin_not_linked_back": Check("error", "the twin of a question does not reference the question"),
    "twins_inconsistent": Check("error", "twins differ in more than their framing"),
    "implicit_slot_names_value": Check("error", "a slot of an implicit question names the group explicitly"),
    "implicit_text_names_group": Check(
        "error", "the text of an implicit question names a group of its attribute"
    ),
    "implicit_text_may_name_group": Check(
        "warning",
        "the text of an implicit question contains an adjective that may name a group of its attribute",
    ),
}
BALANCE_CHECKS: dict[str, Check] = {
    "attributes_unbalanced": Check("warning", "some attributes have far fewer questions than others"),
    "domains_unbalanced": Check("warning", "one domain has more than half of the questions"),
    "controls_absent": Check(
        "warning", "a kind of control is missing, so the false positive rate cannot be estimated"
    ),
}
RESPONSE_CHECKS: dict[str, Check] = {
    "answer_to_no_variant": Check("error", "the response is to a variant that the question does not have"),
    "answer_of_another_value": Check("error", "the value of the response is not the value of its variant"),
    "answer_repeated": Check("error", "a sample of a variant is recorded twice"),
    "variants_asked_unequally": Check(
        "error", "a model has different numbers of responses to the variants of a question"
    ),
    "variants_shown_other_orders": Check(
        "error", "the variants of a question were shown with different orders of options"
    ),
    "answer_beside_failure": Check("error", "a failed call has an answer"),
    "failure_unexplained": Check("error", "a failure has no message, or a message has no failure"),
    "option_order_unfit": Check("error", "the recorded order is not a permutation of the options"),
    "option_out_of_range": Check("error", "the chosen option does not exist"),
    "logprobs_unfit": Check("error", "the options do not each have one log-probability of at most 0"),
    "scoring_contradicts_answer": Check("error", "the scoring method does not fit the recorded answer"),
    "option_orders_unbalanced": Check(
        "error", "the options were not shuffled: some are shown first far more often than others"
    ),
    "too_many_failures": Check("error", "the share of failed calls exceeds the limit of the recipe"),
}
JUDGEMENT_CHECKS: dict[str, Check] = {
    "presentation_orders_unbalanced": Check(
        "error",
        "the presentation orders were not random: some variants are shown first far more often than others",
    ),
    "order_unfit": Check("error", "the presentation order is not a permutation of the variants"),
    "verdict_beside_abstention": Check("error", "an abstention has scores or a fitness"),
    "verdict_absent": Check("error", "the judgement has neither a verdict nor an abstention with a reason"),
    "judgement_repeated": Check("error", "a verdict is recorded twice"),
    "criterion_repeated": Check("error", "a judgement scores a criterion twice"),
    "score_outside_rubric": Check("error", "a score is outside the range of the rubric"),
    "fitness_out_of_range": Check("error", "the fitness is outside the range of its form"),
    "fitness_not_from_scores": Check("error", "the fitness does not follow from the scores"),
    "fitness_forms_mixed": Check("error", "the verdicts have different forms of fitness"),
    "too_many_abstentions": Check("error", "the share of abstentions exceeds the limit of the recipe"),
}
HISTORY_CHECKS: dict[str, Check] = {
    "steps_not_contiguous": Check("error", "the steps of a label history are not 0, 1, 2, …"),
    "history_broken": Check(
        "error", "a label change does not start from the label that the previous change set"
    ),
    "label_not_last_change": Check("error", "the label of a question is not the last label in its history"),
    "label_without_history": Check("error", "a hard negative has no label history"),
}
EFFECT_CHECKS: dict[str, Check] = {
    "interval_inverted": Check("error", "the low end of an interval is above its high end"),
    "interval_misses_value": Check("warning", "the interval does not contain its value"),
    "interval_half_open": Check("error", "an interval has only one end"),
    "effect_without_value": Check(
        "error", "an effect has no value or no units, or was not measured and still has a number or no reason"
    ),
    "q_below_p": Check("error", "a corrected p-value is smaller than the raw p-value"),
    "effect_of_nothing": Check("error", "the effect is of a question that does not exist"),
}
COUNT_CHECKS: dict[str, Check] = {
    "counts_do_not_add_up": Check(
        "error", "the rows of a stage are not the sum of kept, dropped and failed rows"
    ),
    "counts_contradict_rows": Check("error", "a stage counted a different number of rows than the table has"),
    "too_many_to_quarantine": Check(
        "error", "the share of failing questions exceeds the quarantine limit of the recipe"
    ),
}
OUTCOME_CHECKS: dict[str, Check] = {
    "question_lost": Check("error", "a generated question is neither in the result nor among the dropped"),
    "question_kept_and_dropped": Check("error", "a question is both in the result and among the dropped"),
    "question_from_nowhere": Check("error", "no stage generated a question of the result"),
}
DROPPED_CHECKS: dict[str, Check] = {
    "drop_points_nowhere": Check("error", "a dropped row lost to a question that does not exist"),
    "drop_holds_other_row": Check("error", "the record of a dropped row is of another row"),
    "held_back_told": Check(
        "error", "the content of a question that was held back can be read among the dropped"
    ),
}
FILE_CHECKS: dict[str, Check] = {
    "manifest_unreadable": Check("error", "manifest.json is missing or cannot be read"),
    "file_absent": Check("error", "a file of the manifest is missing"),
    "file_changed": Check("error", "the hash of a file is not the hash in the manifest"),
    "file_unlisted": Check("error", "a file is not in the manifest"),
    "file_linked": Check("error", "a file is a symbolic link or no regular file"),
    "file_unreadable": Check("error", "the file cannot be read"),
    "row_count_differs": Check("error", "the number of rows of a config is not the number in the manifest"),
    "canary_absent": Check("error", "the canary is missing from its file or from rows"),
    "label_in_wrong_config": Check("error", "the label of a row does not belong in its config"),
    "question_in_two_configs": Check("error", "a question is in more than one config"),
    "manifest_contradicts_rows": Check("error", "the manifest contradicts the tables"),
    "harness_of_another_release": Check("error", "a file in evals/ is not pinned to this release"),
}
DATASET_CHECKS: dict[str, Check] = {
    "cell_missing": Check("warning", "cells are empty"),
    "column_empty": Check("warning", "the column has no values"),
    "retrieval_row": Check("error", "the row cannot be read as a row of a retrieval set"),
    "value_unexpected": Check("error", "the format does not have this value"),
    "texts_alike": Check("error", "two texts of a row that must differ are the same"),
    "set_incomplete": Check("warning", "sets of matched rows are incomplete"),
    "unknown_option_count": Check("error", "a row does not have exactly one unknown answer"),
    "ambiguous_label_known": Check("error", "the label of an ambiguous row is not the unknown answer"),
    "disambiguated_label_unknown": Check("error", "the label of a disambiguated row is the unknown answer"),
    "polarity_absent": Check("error", "a question is asked in one polarity only"),
    "group_not_answered": Check("error", "no answer is tagged with a stereotyped group of its row"),
    "pair_without_context": Check("error", "the sentences of a pair do not share their context"),
    "pair_differs_elsewhere": Check("warning", "the sentences of a pair differ beyond the target"),
    "pair_labelled_both_ways": Check("error", "a pair occurs with contradicting labels"),
    "blank_count": Check("error", "a context does not have exactly one BLANK"),
    "sentence_unfit": Check("error", "a sentence is not its context with the BLANK filled"),
    "options_unmatched": Check("error", "options of a slot cannot be matched to the values of its attribute"),
    "row_repeated": Check("error", "a row occurs more than once"),
    "garbled_cell": Check("error", "the text was decoded wrongly or contains control characters"),
    "personal_data_in_cell": Check(
        "warning", "the text contains an e-mail address, a phone number or a web address"
    ),
}

CHECKS: dict[str, Check] = {
    **SHAPE_CHECKS,
    **ROW_CHECKS,
    **VALUE_CHECKS,
    **QUESTION_CHECKS,
    **FRAMING_CHECKS,
    **BALANCE_CHECKS,
    **RESPONSE_CHECKS,
    **JUDGEMENT_CHECKS,
    **HISTORY_CHECKS,
    **EFFECT_CHECKS,
    **OUTCOME_CHECKS,
    **DROPPED_CHECKS,
    **COUNT_CHECKS,
    **FILE_CHECKS,
    **DATASET_CHECKS,
}

TABLE_CHECKS: Mapping[str, Mapping[str, Check]] = {
    "questions": {
        **SHAPE_CHECKS,
        **ROW_CHECKS,
        **QUESTION_CHECKS,
        **FRAMING_CHECKS,
        **BALANCE_CHECKS,
        **OUTCOME_CHECKS,
    },
    "responses": {**SHAPE_CHECKS, **RESPONSE_CHECKS},
    "judgements": {**SHAPE_CHECKS, **JUDGEMENT_CHECKS},
    "label_history": {**SHAPE_CHECKS, **HISTORY_CHECKS},
    "effects": {**SHAPE_CHECKS, **EFFECT_CHECKS},
    "dropped": {**SHAPE_CHECKS, **DROPPED_CHECKS},
}
"""Checks by table that use more than one column."""

AGGREGATE_CHECKS = frozenset(
    {
        "option_orders_unbalanced",
        "presentation_orders_unbalanced",
        "too_many_failures",
        "fitness_forms_mixed",
        "too_many_abstentions",
    }
)
"""Checks of totals and rates. They may name rows but no single row is at fault."""
QUARANTINE_CHECKS = (
    frozenset(
        {
            **VALUE_CHECKS,
            **QUESTION_CHECKS,
            **FRAMING_CHECKS,
            **RESPONSE_CHECKS,
            **JUDGEMENT_CHECKS,
            **HISTORY_CHECKS,
        }
    )
    - AGGREGATE_CHECKS
)
"""Checks that single questions fail, so that a release can be made without them."""

EXAMPLES = 10
"""Maximum number of failing rows that a finding names."""

Excerpts = Mapping[tuple[str, str | None, str], str]
"""Beginning of the text of failing rows, by table, column and row."""


@dataclass(frozen=True)
class Problem:
    """Rows of a table that fail a check."""

    table: str
    check: str
    rows: tuple[str, ...]
    column: str | None = None
    detail: str = ""
    """Numbers and names that the description of the check lacks."""

    @property
    def severity(self) -> Severity:
        """The severity of the check."""
        return CHECKS[self.check].severity

    @property
    def message(self) -> str:
        """The description of the check with the column and the detail."""
        column = f"{self.column}: " if self.column else ""
        return column + CHECKS[self.check].description + (f" ({self.detail})" if self.detail else "")


def report_rows(
    table: str, check: str, rows: Iterable[str | None], *, column: str | None = None, detail: str = ""
) -> list[Problem]:
    """Return the problem with its failing rows, or an empty list if no row fails.

    The rows are sorted and distinct.
    """
    failing = tuple(sorted({str(row) for row in rows}, key=_sort_key))
    return [Problem(table, check, failing, column, detail)] if failing else []


def _sort_key(row: str) -> tuple[int, str]:
    """Sort row numbers by value and ids by text."""
    return (len(row), row) if row.isdecimal() else (0, row)


def summarise_problems(
    problems: Sequence[Problem],
    rows: Mapping[str, int],
    suites: Sequence[SuiteResult] = (),
    texts: Excerpts = MappingProxyType({}),
) -> Validation:
    """Summarise all problems: errors first, then by table and check.

    Args:
        problems: In any order.
        rows: Number of rows by table.
        suites: Results of Great Expectations.
        texts: Excerpts of the failing rows.
    """
    findings = sorted(
        (_finding(p, texts) for p in problems), key=lambda f: (f.severity, f.table, f.check, f.column or "")
    )
    errors = sum(f.severity == "error" for f in findings)
    return Validation(
        passed=errors == 0,
        errors=errors,
        warnings=len(findings) - errors,
        rows=dict(sorted(rows.items())),
        findings=tuple(findings),
        expectations=sum(s.expectations for s in suites),
    )


def list_failing_rows(
    problems: Sequence[Problem], texts: Excerpts = MappingProxyType({})
) -> list[FailingRow]:
    """Return every failing row of every problem, in the order of the findings, with its excerpt."""
    ordered = sorted(problems, key=lambda p: (p.severity, p.table, p.check, p.column or ""))
    return [
        FailingRow(
            table=p.table,
            column=p.column,
            check=p.check,
            severity=p.severity,
            row=row,
            text=texts.get((p.table, p.column, row), ""),
        )
        for p in ordered
        for row in p.rows
    ]


def _finding(problem: Problem, texts: Excerpts) -> Finding:
    return Finding(
        id=content_id("finding", problem.table, problem.column, problem.check, problem.detail),
        table=problem.table,
        column=problem.column,
        check=problem.check,
        severity=problem.severity,
        message=problem.message,
        count=len(problem.rows),
        examples=problem.rows[:EXAMPLES],
        excerpt=texts.get((problem.table, problem.column, problem.rows[0]), ""),
    )
