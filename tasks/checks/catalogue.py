"""Every check of the gate by name: how severe it is, and the sentence that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from schemas.gate import FailingRow, Finding, Severity, SuiteResult, Validation
from schemas.tables import content_id


class Check(NamedTuple):
    """An error stops a release; a warning is told and stays in the report."""

    severity: Severity
    says: str


SHAPE: dict[str, Check] = {
    "column_absent": Check("error", "a column of the table is not there"),
    "column_of_another_type": Check("error", "a column holds another type than the table declares"),
    "column_unknown": Check("warning", "there is a column that the table does not declare"),
    "not_utf8": Check("error", "the file holds bytes that are not UTF-8 text"),
}
ROWS: dict[str, Check] = {
    "row_unreadable": Check("error", "the row does not fit the record that it should be"),
    "table_empty": Check("error", "the table has no rows"),
}
VALUES: dict[str, Check] = {
    "key_repeated": Check("error", "the same id stands in several rows"),
    "id_malformed": Check("error", "the id is not a prefix and 16 hexadecimal digits"),
    "value_missing": Check("error", "a value is missing that every row must have"),
    "value_not_allowed": Check("error", "the value is not one of those that the column allows"),
    "out_of_range": Check("error", "the number is outside the range that the column allows"),
    "text_empty": Check("error", "the text is empty"),
    "text_too_long": Check("warning", "the text is unusually long"),
    "language_malformed": Check("error", "the language is no language tag such as `en` or `pt-BR`"),
    "not_json": Check("error", "the text should be JSON and is not"),
    "reference_broken": Check("error", "the id names a row that does not exist"),
    "garbled_text": Check("error", "the text was decoded wrongly somewhere, or holds control characters"),
    "personal_data_in_dropped": Check(
        "warning", "a dropped row holds an e-mail address, a phone number or a web address"
    ),
    "garbled_answer": Check("warning", "the answer holds wrongly decoded text or control characters"),
    "slot_unfilled": Check("error", "a slot or placeholder was left in the text"),
    "personal_data": Check("error", "the text holds an e-mail address, a phone number or a web address"),
    "personal_data_in_answer": Check(
        "warning", "the answer holds an e-mail address, a phone number or a web address"
    ),
}
GROUPS: dict[str, Check] = {
    "id_is_not_content": Check("error", "the question's id does not follow from its content"),
    "values_repeated": Check("error", "a value stands twice in a question that is no A/A control"),
    "value_unknown": Check("error", "the attribute has no value of that name"),
    "attribute_unknown": Check("error", "there is no attribute of that name"),
    "variant_missing": Check("error", "the question has not exactly one variant per value, in their order"),
    "template_broken": Check("error", "the template's slots cannot be read, or do not fit the values"),
    "template_without_slot": Check("error", "the template has no slot, so its variants cannot differ"),
    "variants_differ_outside_slots": Check(
        "error", "the variants are not what the template expands to: they differ outside its slots"
    ),
    "variants_alike": Check("error", "two variants read the same although their values differ"),
    "a_a_differs": Check("error", "an A/A control has two values or two texts: its effect is not zero"),
    "label_contradicts_control": Check("error", "controls, and only controls, carry the label `control`"),
    "question_repeated": Check("error", "two questions have the same text and the same values"),
    "options_unfit": Check("error", "the answer options do not fit the family, in number or in role"),
    "options_alike": Check("error", "two answer options of a question read the same"),
    "text_in_another_language": Check("warning", "the text reads like another language than it should"),
    "lineage_missing": Check("error", "an evolved question does not name the operator that made it"),
}
FRAMING: dict[str, Check] = {
    "twin_not_linked_back": Check("error", "a twin does not name the question that names it"),
    "twins_inconsistent": Check("error", "twins differ in more than their framing"),
    "implicit_slot_names_value": Check("error", "a slot of an implicit question names the group outright"),
    "implicit_text_names_group": Check("error", "an implicit question names a group of its attribute"),
    "implicit_text_may_name_group": Check(
        "warning", "an implicit question holds an adjective that may name a group of its attribute"
    ),
}
BALANCE: dict[str, Check] = {
    "attributes_unbalanced": Check("warning", "some attributes have far fewer questions than others"),
    "domains_unbalanced": Check("warning", "one domain holds more than half of the questions"),
    "controls_absent": Check("warning", "there are no controls, so there is no false-positive floor"),
}
OF_RESPONSES: dict[str, Check] = {
    "answer_to_no_variant": Check("error", "the response answers a variant that its question does not have"),
    "answer_of_another_value": Check("error", "the response names another value than its variant has"),
    "answer_repeated": Check("error", "the same sample of the same variant was recorded twice"),
    "variants_asked_unequally": Check(
        "error", "a question's variants have different numbers of responses from one model"
    ),
    "variants_shown_other_orders": Check(
        "error", "variants of one question were shown their options in different orders"
    ),
    "answer_beside_failure": Check("error", "the row of a failed call holds an answer"),
    "failure_unexplained": Check("error", "a failure has no message, or a message has no failure"),
    "option_order_unfit": Check("error", "the recorded order is not an order of the question's options"),
    "option_out_of_range": Check("error", "the chosen option does not exist"),
    "logprobs_unfit": Check("error", "there is not one log-probability, at most 0, per option"),
    "scoring_contradicts_answer": Check("error", "the way of scoring does not fit what was recorded"),
    "option_orders_unbalanced": Check(
        "error", "the options were not shuffled: some stand first far more often than others"
    ),
    "too_many_failures": Check("error", "more calls failed than the recipe tolerates"),
}
OF_JUDGEMENTS: dict[str, Check] = {
    "presentation_orders_unbalanced": Check(
        "error", "the judges' orders were not drawn: some variants stand first far more often than others"
    ),
    "order_unfit": Check("error", "the presentation order is not an order of the question's variants"),
    "verdict_beside_abstention": Check("error", "an abstention holds scores or a fitness"),
    "verdict_absent": Check("error", "there is neither a verdict nor an abstention with its reason"),
    "judgement_repeated": Check("error", "the same verdict was recorded twice"),
    "criterion_repeated": Check("error", "a judgement scores the same criterion twice"),
    "score_outside_rubric": Check("error", "a score is outside the rubric's range"),
    "fitness_out_of_range": Check("error", "the fitness is outside the range of its form"),
    "fitness_not_from_scores": Check("error", "the fitness does not follow from the scores"),
    "fitness_forms_mixed": Check("error", "verdicts in different forms of fitness stand side by side"),
    "too_many_abstentions": Check("error", "judges abstained more often than the recipe tolerates"),
}
OF_HISTORY: dict[str, Check] = {
    "steps_not_contiguous": Check("error", "the steps of a label's history do not run 0, 1, 2, …"),
    "history_broken": Check("error", "a change of label starts from another label than the last one left"),
    "label_not_last_change": Check("error", "a question's label is not the last one of its history"),
    "label_without_history": Check("error", "a hard negative has no history that says why it is one"),
}
OF_EFFECTS: dict[str, Check] = {
    "interval_inverted": Check("error", "an interval's low end is above its high end"),
    "interval_misses_value": Check("warning", "the value lies outside its own interval"),
    "interval_half_open": Check("error", "an interval has only one end"),
    "q_below_p": Check("error", "a corrected p-value is smaller than the raw one"),
    "effect_of_nothing": Check("error", "the effect names a question that does not exist"),
}
COUNTS: dict[str, Check] = {
    "counts_do_not_add_up": Check("error", "rows in are not rows kept + dropped + failed"),
    "counts_contradict_rows": Check("error", "a stage counted other rows than there are"),
    "too_many_to_quarantine": Check("error", "more questions fail than the recipe lets be taken out"),
}
ENDINGS: dict[str, Check] = {
    "question_lost": Check("error", "a generated question is neither in the result nor among the dropped"),
    "question_kept_and_dropped": Check("error", "a question is both in the result and among the dropped"),
    "question_from_nowhere": Check("error", "a question is in the result that no stage generated"),
}
OF_DROPPED: dict[str, Check] = {
    "drop_points_nowhere": Check("error", "a dropped row lost to a question that does not exist"),
    "drop_holds_other_row": Check("error", "a dropped row's record is not the row that it tells of"),
    "held_back_told": Check("error", "a question that was held back can be read among the dropped"),
}
FILES: dict[str, Check] = {
    "manifest_unreadable": Check("error", "manifest.json is absent or cannot be read"),
    "file_absent": Check("error", "a file that the manifest lists is not there"),
    "file_changed": Check("error", "a file's hash is not the one in the manifest"),
    "file_unlisted": Check("error", "a file is there that the manifest does not list"),
    "file_unreadable": Check("error", "the file cannot be read"),
    "row_count_differs": Check("error", "a config has another number of rows than the manifest says"),
    "canary_absent": Check("error", "the release's canary is missing from its file or its rows"),
    "label_in_wrong_config": Check("error", "a row's label does not belong in the config where it stands"),
    "question_in_two_configs": Check("error", "a question stands in more than one config"),
    "manifest_contradicts_rows": Check("error", "the manifest tells what the tables do not"),
    "harness_of_another_release": Check("error", "a file in evals/ is not pinned to this release"),
}
FOREIGN: dict[str, Check] = {
    "cell_missing": Check("warning", "cells are empty"),
    "column_empty": Check("warning", "the column holds nothing at all"),
    "value_unexpected": Check("error", "the value is none that the format has"),
    "texts_alike": Check("error", "two texts of a row that should differ read the same"),
    "set_incomplete": Check("warning", "sets of matched rows lack some of theirs"),
    "row_repeated": Check("error", "the same row stands there more than once"),
    "garbled_cell": Check("error", "the text was decoded wrongly somewhere, or holds control characters"),
    "personal_data_in_cell": Check(
        "warning", "the text holds an e-mail address, a phone number or a web address"
    ),
}

CHECKS: dict[str, Check] = {
    **SHAPE,
    **ROWS,
    **VALUES,
    **GROUPS,
    **FRAMING,
    **BALANCE,
    **OF_RESPONSES,
    **OF_JUDGEMENTS,
    **OF_HISTORY,
    **OF_EFFECTS,
    **ENDINGS,
    **OF_DROPPED,
    **COUNTS,
    **FILES,
    **FOREIGN,
}

OWN: Mapping[str, Mapping[str, Check]] = {
    "questions": {**SHAPE, **ROWS, **GROUPS, **FRAMING, **BALANCE, **ENDINGS},
    "responses": {**SHAPE, **OF_RESPONSES},
    "judgements": {**SHAPE, **OF_JUDGEMENTS},
    "label_history": {**SHAPE, **OF_HISTORY},
    "effects": {**SHAPE, **OF_EFFECTS},
    "dropped": {**SHAPE, **OF_DROPPED},
}
"""By table, the checks that look at more than one column."""

OF_THE_WHOLE = frozenset(
    {
        "option_orders_unbalanced",
        "presentation_orders_unbalanced",
        "too_many_failures",
        "fitness_forms_mixed",
        "too_many_abstentions",
    }
)
"""Faults of no single row, though rows may be named."""
OF_ROWS = (
    frozenset({**VALUES, **GROUPS, **FRAMING, **OF_RESPONSES, **OF_JUDGEMENTS, **OF_HISTORY}) - OF_THE_WHOLE
)
"""Checks that a question fails, so that the others may go on without it."""


# From problems (a check and the ids of all rows that fail it) to findings that a person reads.


EXAMPLES = 10

Excerpts = Mapping[tuple[str, str | None, str], str]
"""Beginnings of what failing rows say, by table, column and row."""


@dataclass(frozen=True)
class Problem:
    """Rows of one table that fail one check of the catalogue."""

    table: str
    check: str
    rows: tuple[str, ...]
    column: str | None = None
    detail: str = ""
    """What the sentence of the catalogue cannot know: the numbers, the names."""

    @property
    def severity(self) -> Severity:
        return CHECKS[self.check].severity

    @property
    def message(self) -> str:
        column = f"{self.column}: " if self.column else ""
        return column + CHECKS[self.check].says + (f" ({self.detail})" if self.detail else "")


def problem(
    table: str, check: str, rows: Iterable[str | None], *, column: str | None = None, detail: str = ""
) -> list[Problem]:
    """That problem where any row has it; nothing where none has. Rows are sorted and told once."""
    failing = tuple(sorted({str(row) for row in rows}, key=_numbers_by_size))
    return [Problem(table, check, failing, column, detail)] if failing else []


def _numbers_by_size(row: str) -> tuple[int, str]:
    return (len(row), row) if row.isdecimal() else (0, row)


def summarise(
    problems: Sequence[Problem],
    rows: Mapping[str, int],
    suites: Sequence[SuiteResult] = (),
    texts: Excerpts = MappingProxyType({}),
) -> Validation:
    """The verdict over all problems: errors first, then by table and check."""
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


def failing_rows(problems: Sequence[Problem], texts: Excerpts = MappingProxyType({})) -> list[FailingRow]:
    """Every failing row of every problem, in the order of the findings. `texts`: what rows say."""
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


def _finding(found: Problem, texts: Excerpts) -> Finding:
    return Finding(
        id=content_id("finding", found.table, found.column, found.check, found.detail),
        table=found.table,
        column=found.column,
        check=found.check,
        severity=found.severity,
        message=found.message,
        count=len(found.rows),
        examples=found.rows[:EXAMPLES],
        excerpt=texts.get((found.table, found.column, found.rows[0]), ""),
    )
