"""Check that the gate catches every corruption and nothing else.

Good tables are corrupted in one way at a time, and the named check must catch each corruption. Then they are
changed in harmless ways, which must not be reported.

    python -m benchmarks.gate_mutations [--json | --markdown] [--quick]

`--markdown` prints the results as tables. docs/gate.md lists the changes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.gate import SuiteResult
from schemas.labels import StageCounts
from schemas.question import Question, question_id
from schemas.tables import content_id, file_hash
from tasks.checks.catalogue import Problem
from tasks.checks.release_files import open_release_files
from tasks.gate.completeness import ASSEMBLED_TABLES
from tasks.gate.examination import TABLES, GateContext, examine
from tasks.gate.great_expectations import FAULTS, FailingByCheck, Frame, run_suite
from tasks.release import MANIFEST, config_file
from tasks.text.slots import expand_template
from tests.material.good_release import write_release
from tests.material.good_tables import JUDGE, as_dropped, good_tables

Record = dict[str, Any]


@dataclass
class Case:
    """Tables as mutable records, with the material they are checked against."""

    tables: dict[str, list[Record]]
    knowledge: GateContext
    reshape: dict[str, Callable[[pa.Table], pa.Table]] = field(default_factory=dict)
    """Changes of a table's columns, once its rows are Arrow."""

    def first(self, table: str, **wanted: Any) -> Record:
        """Return the first row with these values."""
        return next(r for r in self.tables[table] if all(r[k] == v for k, v in wanted.items()))

    def count_again(self) -> None:
        """Set the counts of `assemble` to the current numbers of rows."""
        there = {stage: len(self.tables[table]) for stage, table in ASSEMBLED_TABLES.items()}
        counts = tuple(
            c.model_copy(update={"rows": there[c.stage], "kept": there[c.stage]}) if c.stage in there else c
            for c in self.knowledge.counts
        )
        self.knowledge = replace(self.knowledge, counts=counts)

    def arrow(self) -> dict[str, pa.Table]:
        tables = {
            name: pa.Table.from_pylist(rows, schema=TABLES[name].arrow_schema)
            for name, rows in self.tables.items()
        }
        return {name: self.reshape.get(name, lambda t: t)(rows) for name, rows in tables.items()}


@dataclass(frozen=True)
class Change:
    """One way to change good tables or a release, and the check that must report it (`None`: harmless)."""

    name: str
    check: str | None
    apply: Callable[[Any], None]
    of_release: bool = False


CHANGES: list[Change] = []


def corrupts(
    check: str, *, release: bool = False
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a corruption that the check of that name must catch."""

    def register(apply: Callable[[Any], None]) -> Callable[[Any], None]:
        CHANGES.append(Change(apply.__name__, check, apply, release))
        return apply

    return register


def harmless(apply: Callable[[Any], None]) -> Callable[[Any], None]:
    """Register a harmless change, which must not be reported. Added and removed rows are counted."""

    def counted(case: Case) -> None:
        apply(case)
        case.count_again()

    CHANGES.append(Change(apply.__name__, None, counted))
    return apply


def harmless_to_release(apply: Callable[[Any], None]) -> Callable[[Any], None]:
    """Register a harmless change of a release directory."""
    CHANGES.append(Change(apply.__name__, None, apply, of_release=True))
    return apply


# --- columns


@corrupts("row_unreadable")
def a_list_holds_nothing(case: Case) -> None:
    case.tables["questions"][0]["values"][0] = None


@corrupts("column_absent")
def a_column_is_gone(case: Case) -> None:
    case.reshape["responses"] = lambda t: t.drop_columns(["revision"])


@corrupts("column_of_another_type")
def numbers_became_text(case: Case) -> None:
    case.reshape["judgements"] = lambda t: _recast(t, "tokens_in", pa.string())


@corrupts("column_unknown")
def a_column_was_added(case: Case) -> None:
    case.reshape["questions"] = lambda t: t.append_column("notes", pa.array(["?"] * t.num_rows))


@corrupts("not_utf8")
def bytes_are_not_text(case: Case) -> None:
    def spoil(table: pa.Table) -> pa.Table:
        raw = pa.array([b"caf\xe9"] * table.num_rows, pa.binary())
        text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
        return table.set_column(table.column_names.index("topic"), "topic", text)

    case.reshape["questions"] = spoil


@corrupts("key_repeated")
def an_id_stands_twice(case: Case) -> None:
    case.tables["responses"][1]["id"] = case.tables["responses"][0]["id"]


@corrupts("key_repeated")
def a_question_stands_twice(case: Case) -> None:
    case.tables["questions"].append(deepcopy(case.tables["questions"][0]))


@corrupts("id_malformed")
def an_id_is_a_row_number(case: Case) -> None:
    case.tables["judgements"][3]["id"] = "3"


@corrupts("value_missing")
def a_topic_is_missing(case: Case) -> None:
    case.tables["questions"][2]["topic"] = None


@corrupts("value_missing")
def a_model_is_missing(case: Case) -> None:
    case.tables["responses"][2]["model"] = None


@corrupts("value_not_allowed")
def a_framing_is_invented(case: Case) -> None:
    case.tables["questions"][2]["framing"] = "sideways"


@corrupts("value_not_allowed")
def a_fitness_form_is_invented(case: Case) -> None:
    case.tables["judgements"][2]["fitness_form"] = "softmax"


@corrupts("out_of_range")
def a_p_value_is_above_one(case: Case) -> None:
    case.tables["effects"][0] |= {"p_value": 1.7, "q_value": 1.8}


@corrupts("out_of_range")
def a_cost_is_negative(case: Case) -> None:
    case.tables["responses"][0]["cost_usd"] = -0.01


@corrupts("out_of_range")
def a_similarity_is_above_hundred(case: Case) -> None:
    case.tables["dropped"][0]["similarity"] = 130.0


@corrupts("text_empty")
def a_variant_has_no_text(case: Case) -> None:
    case.tables["questions"][8]["variants"][1]["text"] = ""


@corrupts("text_empty")
def a_drop_has_no_reason(case: Case) -> None:
    case.tables["dropped"][0]["reason"] = ""


@corrupts("text_too_long")
def a_question_is_a_novel(case: Case) -> None:
    _reword(case.tables["questions"][0], "And then it rained. " * 300)


@corrupts("not_json")
def a_record_is_cut_off(case: Case) -> None:
    case.tables["dropped"][0]["record"] = case.tables["dropped"][0]["record"][:-5]


@corrupts("reference_broken")
def an_answer_is_to_no_question(case: Case) -> None:
    case.tables["responses"][0]["question_id"] = "q_0000000000000000"


@corrupts("reference_broken")
def a_parent_does_not_exist(case: Case) -> None:
    case.tables["questions"][0]["parent_id"] = "q_0000000000000000"


@corrupts("garbled_text")
def a_question_is_mojibake(case: Case) -> None:
    _reword(case.tables["questions"][0], "We met at the cafÃ© and talked.")


@corrupts("garbled_text")
def a_topic_holds_a_control_character(case: Case) -> None:
    case.tables["questions"][0]["topic"] = "lad\x00der"


@corrupts("garbled_answer")
def an_answer_is_mojibake(case: Case) -> None:
    case.tables["responses"][20]["text"] = "Donâ€™t worry about it."


@corrupts("slot_unfilled")
def a_form_is_left_in_a_variant(case: Case) -> None:
    case.tables["questions"][4]["variants"][0]["text"] += " Ask {possessive} friends."


@corrupts("slot_unfilled")
def braces_are_left_in_a_variant(case: Case) -> None:
    case.tables["questions"][6]["variants"][0]["text"] += " {{he/she"


@corrupts("personal_data")
def a_question_holds_an_address(case: Case) -> None:
    _reword(case.tables["questions"][0], "Write to jo.doe@example.org first.")


@corrupts("personal_data")
def a_question_holds_a_phone_number(case: Case) -> None:
    _reword(case.tables["questions"][0], "The number is +49 170 1234567.")


@corrupts("personal_data_in_answer")
def an_answer_holds_a_link(case: Case) -> None:
    case.tables["responses"][21]["text"] = "See https://example.org/help for more."


@corrupts("language_malformed")
def a_language_is_spelt_out(case: Case) -> None:
    case.tables["questions"][0]["language"] = "English"


@corrupts("personal_data_in_dropped")
def a_dropped_row_holds_an_address(case: Case) -> None:
    case.tables["dropped"][0]["text"] += " Ask jo.doe@example.org."


# --- groups


@corrupts("id_is_not_content")
def an_id_belongs_to_another_text(case: Case) -> None:
    _reword(case.tables["questions"][0], "It is urgent.")
    case.tables["questions"][0]["changed_in"] = None


@corrupts("values_repeated")
def a_value_stands_twice(case: Case) -> None:
    row = case.first("questions", framing="explicit")
    row["values"][1] = row["values"][0]
    row["variants"][1]["value"] = row["values"][0]


@corrupts("value_unknown")
def a_value_is_invented(case: Case) -> None:
    row = case.tables["questions"][0]
    row["values"][0] = row["variants"][0]["value"] = "martian"


@corrupts("attribute_unknown")
def an_attribute_is_invented(case: Case) -> None:
    case.tables["questions"][0]["attribute"] = "shoe_size"


@corrupts("variant_missing")
def a_variant_is_lost(case: Case) -> None:
    case.tables["questions"][0]["variants"].pop()


@corrupts("variant_missing")
def variants_are_swapped(case: Case) -> None:
    case.tables["questions"][0]["variants"].reverse()


@corrupts("template_broken")
def a_slot_has_an_option_too_few(case: Case) -> None:
    case.tables["questions"][0]["template"] += " {{he/she}}"


@corrupts("template_without_slot")
def a_template_has_no_slot(case: Case) -> None:
    case.tables["questions"][0]["template"] = "What should I say to my neighbour?"


@corrupts("variants_differ_outside_slots")
def a_variant_says_more_than_its_template(case: Case) -> None:
    case.tables["questions"][0]["variants"][1]["text"] += " Be honest."


@corrupts("variants_differ_outside_slots")
def a_space_was_doubled_in_one_variant(case: Case) -> None:
    variant = case.tables["questions"][0]["variants"][1]
    variant["text"] = variant["text"].replace(" ", "  ", 1)


@corrupts("variants_alike")
def two_values_get_the_same_text(case: Case) -> None:
    variants = case.tables["questions"][0]["variants"]
    variants[1]["text"] = variants[0]["text"]


@corrupts("a_a_differs")
def a_control_has_two_texts(case: Case) -> None:
    case.first("questions", control="a_a")["variants"][1]["text"] += " Really."


@corrupts("a_a_differs")
def a_control_has_two_values(case: Case) -> None:
    row = case.first("questions", control="a_a")
    row["values"][1] = row["variants"][1]["value"] = "man"


@corrupts("label_contradicts_control")
def a_control_is_accepted(case: Case) -> None:
    case.first("questions", control="placebo")["label"] = "accepted"


@corrupts("question_repeated")
def a_question_is_asked_twice(case: Case) -> None:
    row = deepcopy(case.tables["questions"][0]) | {"twin_id": None}
    row["template"] = row["template"].replace("week", "WEEK")
    _expand(row)
    case.tables["questions"].append(row)
    _generate(case, row)


@corrupts("options_unfit")
def a_completion_lost_an_option(case: Case) -> None:
    case.first("questions", family="completion")["options"].pop()


@corrupts("options_unfit")
def a_decision_is_yes_or_yes(case: Case) -> None:
    case.first("questions", family="decision")["options"][1]["role"] = "yes"


@corrupts("options_alike")
def two_options_read_the_same(case: Case) -> None:
    options = case.first("questions", family="completion")["options"]
    options[1]["text"] = options[0]["text"].upper()


@corrupts("lineage_missing")
def an_evolved_question_has_no_operator(case: Case) -> None:
    case.tables["questions"][0]["origin"] = "evolved"


@corrupts("text_in_another_language")
def a_text_is_in_another_language(case: Case) -> None:
    row = case.tables["questions"][0]
    row["template"] = (
        "Wir haben {{eine Nachbarin/einen Nachbarn/eine nichtbinäre Person}} im Haus, und ich bin nicht "
        "sicher, wie wir sie zum Fest bei uns einladen oder ob das zu viel wird. Was sollte ich sagen?"
    )
    _expand(row)


# --- framing


@corrupts("twin_not_linked_back")
def a_twin_forgets_its_twin(case: Case) -> None:
    case.first("questions", framing="implicit")["twin_id"] = None


@corrupts("twins_inconsistent")
def twins_have_other_topics(case: Case) -> None:
    case.first("questions", framing="implicit")["topic"] = "another"


@corrupts("implicit_slot_names_value")
def a_slot_names_the_group(case: Case) -> None:
    row = case.first("questions", framing="implicit", attribute="gender")
    row["template"] = row["template"].replace("Nova", "") + " {{the woman/the man/the non-binary person}}"
    _expand(row)


@corrupts("implicit_text_names_group")
def an_implicit_text_names_the_group(case: Case) -> None:
    row = case.first("questions", framing="implicit", attribute="gender")
    row["template"] += " I would say the same of any woman."
    _expand(row)


@corrupts("implicit_text_may_name_group")
def an_implicit_text_tells_a_white_lie(case: Case) -> None:
    row = case.first("questions", framing="implicit", attribute="race")
    row["template"] += " I told a white lie."
    _expand(row)


# --- balance


@corrupts("attributes_unbalanced")
def an_attribute_is_rare(case: Case) -> None:
    _keep(case, lambda q: q["attribute"] != "race" or q["topic"] == "lends a ladder")


@corrupts("domains_unbalanced")
def one_domain_is_everywhere(case: Case) -> None:
    for row in case.tables["questions"]:
        if row["domain"] == "neighbourhood":
            row["domain"] = row["superdomain"] = "work"


@corrupts("controls_absent")
def there_are_no_controls(case: Case) -> None:
    _keep(case, lambda q: q["control"] not in ("a_a", "placebo"))


# --- responses


@corrupts("answer_to_no_variant")
def an_answer_is_to_a_seventh_variant(case: Case) -> None:
    case.tables["responses"][0]["variant"] = 7


@corrupts("answer_of_another_value")
def values_of_answers_are_swapped(case: Case) -> None:
    rows = case.tables["responses"]
    rows[0]["value"], rows[2]["value"] = rows[2]["value"], rows[0]["value"]


@corrupts("answer_repeated")
def a_sample_is_counted_twice(case: Case) -> None:
    row = deepcopy(case.tables["responses"][0])
    case.tables["responses"].append(row | {"id": content_id("r", "again")})


@corrupts("variants_asked_unequally")
def one_variant_was_asked_less(case: Case) -> None:
    case.tables["responses"].pop(0)


@corrupts("variants_asked_unequally")
def one_variant_was_never_asked(case: Case) -> None:
    first = case.tables["responses"][0]
    case.tables["responses"] = [
        r for r in case.tables["responses"] if (r["question_id"], r["variant"]) != (first["question_id"], 0)
    ]


@corrupts("variants_shown_other_orders")
def variants_saw_other_orders(case: Case) -> None:
    rows = [r for r in case.tables["responses"] if len(r["option_order"]) == 3]
    rows[0]["option_order"] = [2, 1, 0]


@corrupts("variants_asked_unequally")
def a_condition_was_renamed(case: Case) -> None:
    case.tables["responses"][0]["condition"] = "persona"


@corrupts("variants_asked_unequally")
def a_condition_lost_an_answer(case: Case) -> None:
    first = case.tables["responses"][0]["question_id"]
    asked = [r for r in case.tables["responses"] if r["question_id"] == first]
    for row in asked[1:]:
        other = {"id": content_id("r", row["id"], "persona"), "condition": "persona"}
        case.tables["responses"].append(row | other)


@corrupts("option_orders_unbalanced")
def options_were_never_shuffled(case: Case) -> None:
    extra = [deepcopy(r) for r in case.tables["questions"] if r["family"] == "completion"]
    for i in range(30):
        row = deepcopy(extra[0])
        row["template"] = row["template"].replace("day 0", f"day {i + 40}")
        _expand(row)
        case.tables["questions"].append(row)
        _generate(case, row)
        for old in [r for r in case.tables["responses"] if r["question_id"] == extra[0]["id"]]:
            new = old | {"question_id": row["id"], "option_order": [0, 1, 2], "option": 0}
            case.tables["responses"].append(new | {"id": content_id("r", row["id"], old["id"])})


@corrupts("answer_beside_failure")
def a_failed_call_has_an_answer(case: Case) -> None:
    case.tables["responses"][0] |= {"failure": "timeout", "failure_message": "no answer in 60 s"}


@corrupts("failure_unexplained")
def a_failure_says_nothing(case: Case) -> None:
    case.tables["responses"][0] |= {"failure": "timeout", "text": ""}


@corrupts("option_order_unfit")
def an_order_names_an_option_twice(case: Case) -> None:
    rows = [r for r in case.tables["responses"] if len(r["option_order"]) == 3]
    rows[0]["option_order"] = [0, 0, 2]


@corrupts("option_out_of_range")
def a_fourth_option_was_chosen(case: Case) -> None:
    next(r for r in case.tables["responses"] if len(r["option_order"]) == 3)["option"] = 3


@corrupts("logprobs_unfit")
def a_probability_is_above_one(case: Case) -> None:
    next(r for r in case.tables["responses"] if r["option_logprobs"])["option_logprobs"][0] = 0.4


@corrupts("scoring_contradicts_answer")
def free_text_is_called_sampled(case: Case) -> None:
    case.first("responses", scoring="free_text")["scoring"] = "sampled"


@corrupts("too_many_failures")
def every_tenth_call_failed(case: Case) -> None:
    for row in case.tables["responses"][::10]:
        row |= _failed(row)


# --- judgements


@corrupts("order_unfit")
def a_judge_saw_one_variant_twice(case: Case) -> None:
    case.tables["judgements"][0]["order"][0] = case.tables["judgements"][0]["order"][1]


@corrupts("presentation_orders_unbalanced")
def a_judge_always_saw_the_same_first(case: Case) -> None:
    for row in case.tables["judgements"]:
        row["order"] = sorted(row["order"])


@corrupts("verdict_beside_abstention")
def an_abstention_has_a_score(case: Case) -> None:
    case.tables["judgements"][0]["abstention"] = "unparsable"


@corrupts("verdict_absent")
def a_verdict_has_no_fitness(case: Case) -> None:
    case.tables["judgements"][0]["fitness"] = None


@corrupts("judgement_repeated")
def a_verdict_is_counted_twice(case: Case) -> None:
    row = deepcopy(case.tables["judgements"][0])
    case.tables["judgements"].append(row | {"id": content_id("j", "again")})


@corrupts("criterion_repeated")
def a_criterion_is_scored_twice(case: Case) -> None:
    scores = case.tables["judgements"][0]["scores"]
    scores.append(deepcopy(scores[0]))


@corrupts("score_outside_rubric")
def a_score_is_seven_of_five(case: Case) -> None:
    case.tables["judgements"][0]["scores"][0]["value"] = 7.0


@corrupts("fitness_out_of_range")
def a_normalised_fitness_is_above_one(case: Case) -> None:
    case.tables["judgements"][0]["fitness"] = 1.3


@corrupts("fitness_not_from_scores")
def a_fitness_was_edited(case: Case) -> None:
    case.tables["judgements"][0]["fitness"] = 0.77


@corrupts("fitness_forms_mixed")
def forms_of_fitness_are_mixed(case: Case) -> None:
    case.tables["judgements"][0] |= {"fitness_form": "search", "scores": [], "fitness": 1.4}


@corrupts("too_many_abstentions")
def every_tenth_verdict_is_an_abstention(case: Case) -> None:
    for row in case.tables["judgements"][::10]:
        row |= _abstained()


# --- label history


@corrupts("steps_not_contiguous")
def a_step_is_skipped(case: Case) -> None:
    case.tables["label_history"][1]["step"] = 2


@corrupts("history_broken")
def a_change_starts_elsewhere(case: Case) -> None:
    case.tables["label_history"][1]["before"] = "control"


@corrupts("label_not_last_change")
def a_label_was_changed_silently(case: Case) -> None:
    case.first("questions", label="hard_negative")["label"] = "accepted"


@corrupts("label_without_history")
def a_hard_negative_has_no_history(case: Case) -> None:
    case.tables["label_history"] = case.tables["label_history"][2:]


# --- effects


@corrupts("interval_inverted")
def an_interval_is_upside_down(case: Case) -> None:
    case.tables["effects"][0] |= {"low": 0.5, "high": 0.1}


@corrupts("interval_misses_value")
def a_value_is_outside_its_interval(case: Case) -> None:
    case.tables["effects"][0]["value"] = 0.9


@corrupts("interval_half_open")
def an_interval_has_one_end(case: Case) -> None:
    case.tables["effects"][0]["low"] = None


@corrupts("effect_without_value")
def an_effect_has_no_value(case: Case) -> None:
    case.tables["effects"][0] |= {"value": None, "low": None, "high": None}


@corrupts("effect_without_value")
def an_unmeasured_effect_has_a_number(case: Case) -> None:
    case.tables["effects"][0] |= {"status": "not_measured", "reason": "coverage: 1 of 9 answers read"}


@corrupts("q_below_p")
def a_correction_made_it_better(case: Case) -> None:
    case.tables["effects"][0] |= {"p_value": 0.5, "q_value": 0.04}


@corrupts("effect_of_nothing")
def an_effect_is_of_no_question(case: Case) -> None:
    case.tables["effects"][0]["name"] = "q_0000000000000000"


# --- reconciliation


@corrupts("counts_do_not_add_up")
def a_stage_lost_rows(case: Case) -> None:
    lost = StageCounts(stage="judge", unit="groups", rows=10, kept=8, dropped=1, failed=0)
    case.knowledge = replace(case.knowledge, counts=(*case.knowledge.counts, lost))


@corrupts("counts_contradict_rows")
def a_count_was_shifted(case: Case) -> None:
    counts = case.knowledge.counts
    shifted = counts[1].model_copy(update={"kept": counts[1].kept - 3, "dropped": 3})
    case.knowledge = replace(case.knowledge, counts=(counts[0], shifted, *counts[2:]))


@corrupts("counts_contradict_rows")
def answers_were_left_out_of_the_count(case: Case) -> None:
    counts = case.knowledge.counts
    fewer = counts[2].model_copy(update={"rows": counts[2].rows - 5, "kept": counts[2].kept - 5})
    case.knowledge = replace(case.knowledge, counts=(*counts[:2], fewer, counts[3]))


@corrupts("question_lost")
def a_question_disappeared(case: Case) -> None:
    case.tables["dropped"].pop()


@corrupts("question_kept_and_dropped")
def a_question_ends_twice(case: Case) -> None:
    kept = Question.model_validate(case.tables["questions"][0])
    case.tables["dropped"].append(as_dropped(kept).model_dump())


@corrupts("question_from_nowhere")
def a_question_was_slipped_in(case: Case) -> None:
    generated = case.knowledge.generated - {case.tables["questions"][0]["id"]}
    case.knowledge = replace(case.knowledge, generated=generated)


@corrupts("drop_points_nowhere")
def a_drop_lost_to_nobody(case: Case) -> None:
    case.tables["dropped"][0]["because_of"] = "q_0000000000000000"


@corrupts("drop_holds_other_row")
def a_drop_holds_another_record(case: Case) -> None:
    case.tables["dropped"][0]["record"] = case.tables["dropped"][1]["record"]


@corrupts("held_back_told")
def a_held_back_question_can_be_read(case: Case) -> None:
    case.first("dropped", reason="held_back")["text"] = "My neighbour keeps the score. What should I say?"


@corrupts("held_back_told")
def a_held_back_record_is_whole(case: Case) -> None:
    row = case.first("dropped", reason="held_back")
    row["record"] = json.dumps(json.loads(row["record"]) | {"template": "My neighbour keeps the score."})


@corrupts("question_kept_and_dropped")
def a_question_taken_out_is_released(case: Case) -> None:
    row = case.first("dropped", stage="validate")
    case.tables["questions"].append(json.loads(row["record"]))


@corrupts("table_empty")
def there_are_no_questions(case: Case) -> None:
    case.tables["questions"].clear()


# --- release files


@corrupts("manifest_unreadable", release=True)
def the_manifest_is_cut_off(path: Path) -> None:
    whole = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(whole[:-30])


@corrupts("manifest_unreadable", release=True)
def the_manifest_is_gone(path: Path) -> None:
    (path / "manifest.json").unlink()


@corrupts("file_absent", release=True)
def a_file_was_removed(path: Path) -> None:
    (path / "CHANGELOG.md").unlink()


@corrupts("file_changed", release=True)
def a_file_was_edited(path: Path) -> None:
    (path / "README.md").write_text("Better than ever.\n")


@corrupts("file_unlisted", release=True)
def a_file_was_added(path: Path) -> None:
    (path / "data" / "extra.csv").write_text("a,b\n")


@corrupts("file_linked", release=True)
def a_file_was_replaced_by_a_link(path: Path) -> None:
    (path / "CHANGELOG.md").unlink()
    (path / "CHANGELOG.md").symlink_to("/etc/hostname")


@corrupts("file_unreadable", release=True)
def a_table_is_cut_off(path: Path) -> None:
    file = next((path / "data" / "responses").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])


@corrupts("row_count_differs", release=True)
def the_manifest_counts_other_rows(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["rows"]["questions"] += 1
    (path / "manifest.json").write_text(json.dumps(manifest))


@corrupts("canary_absent", release=True)
def the_canary_is_another(path: Path) -> None:
    (path / "CANARY.md").write_text("There is no canary here.\n")


@corrupts("label_in_wrong_config", release=True)
def a_control_is_among_the_questions(path: Path) -> None:
    write_release(path, *good_tables(), misplace=True)


@corrupts("question_in_two_configs", release=True)
def a_question_is_in_two_configs(path: Path) -> None:
    tables, knowledge = good_tables()
    kept = tables["questions"][0]
    tables["questions"].append(kept.model_copy(update={"label": "hard_negative"}))
    write_release(path, tables, knowledge)


@corrupts("canary_absent", release=True)
def a_row_lost_its_canary(path: Path) -> None:
    file = path / config_file("controls")
    table = pq.read_table(file)
    canaries = pa.array([None, *table["canary"].to_pylist()[1:]], pa.string())
    pq.write_table(table.set_column(table.column_names.index("canary"), "canary", canaries), file)


@corrupts("manifest_contradicts_rows", release=True)
def a_passport_is_of_another_rubric(path: Path) -> None:
    _edit_manifest(path, lambda m: m["passports"][0].update(rubric_hash="9" * 64))


@corrupts("manifest_contradicts_rows", release=True)
def a_judge_has_two_passports(path: Path) -> None:
    _edit_manifest(path, lambda m: m["passports"].append(m["passports"][0]))


@corrupts("manifest_contradicts_rows", release=True)
def a_judge_is_not_told(path: Path) -> None:
    _edit_manifest(path, lambda m: m.update(judged_by=["divergence"]))


@corrupts("manifest_contradicts_rows", release=True)
def fewer_questions_were_held_back(path: Path) -> None:
    _edit_manifest(path, lambda m: m.update(hold_back=None))


@corrupts("manifest_contradicts_rows", release=True)
def an_overlap_is_not_told(path: Path) -> None:
    _edit_manifest(path, lambda m: m["clear_of"][0].update(overlapping=0))


@corrupts("manifest_contradicts_rows", release=True)
def a_quarantine_is_not_told(path: Path) -> None:
    _edit_manifest(path, lambda m: m.update(quarantine=None))


@corrupts("manifest_contradicts_rows", release=True)
def people_decided_more_than_they_saw(path: Path) -> None:
    _edit_manifest(path, lambda m: m["review"].update(kept=400))


@corrupts("manifest_contradicts_rows", release=True)
def an_agreement_lies_outside_its_interval(path: Path) -> None:
    _edit_manifest(path, lambda m: m["review"].update(alpha=0.95))


@corrupts("manifest_contradicts_rows", release=True)
def the_recipe_was_edited(path: Path) -> None:
    _edit_manifest(path, lambda m: m["recipe"].update(seed=8))


@corrupts("manifest_contradicts_rows", release=True)
def the_release_never_passed(path: Path) -> None:
    _edit_manifest(path, lambda m: m.update(validation={"passed": 0, "warnings": 0, "errors": 3}))


@corrupts("harness_of_another_release", release=True)
def the_harness_is_pinned_elsewhere(path: Path) -> None:
    _edit_harness(path, "version: 1.0.0", "version: 0.9.0")


@corrupts("harness_of_another_release", release=True)
def the_harness_reads_a_file_that_is_not_there(path: Path) -> None:
    _edit_harness(path, "data/controls/", "data/elsewhere/")


# --- harmless


@harmless
def rows_are_in_another_order(case: Case) -> None:
    for rows in case.tables.values():
        rows.reverse()


@harmless
def columns_are_in_another_order(case: Case) -> None:
    case.reshape["responses"] = lambda t: t.select(t.column_names[::-1])


@harmless
def text_is_stored_as_large_text(case: Case) -> None:
    case.reshape["responses"] = lambda t: _recast(t, "text", pa.large_string())


@harmless
def text_is_stored_as_a_dictionary(case: Case) -> None:
    case.reshape["responses"] = lambda t: _recast(t, "model", pa.dictionary(pa.int32(), pa.string()))


@harmless
def rows_carry_a_canary(case: Case) -> None:
    case.reshape["questions"] = lambda t: t.append_column("canary", pa.array(["c"] * t.num_rows))


@harmless
def an_answer_has_accents_and_dashes(case: Case) -> None:
    case.tables["responses"][0]["text"] = "Die Straße – naïve café, “déjà vu” … Ñandú, São João, 10 °C, £5"


@harmless
def an_answer_is_in_other_scripts(case: Case) -> None:
    case.tables["responses"][1]["text"] = "日本語 Привет مرحبا 😀"


@harmless
def an_answer_has_years_and_prices(case: Case) -> None:
    case.tables["responses"][2]["text"] = (
        "Between 1999-2024 it cost 1,200.50 euros; 24 000 000 people, 3/4 of them."
    )


@harmless
def an_answer_holds_braces(case: Case) -> None:
    case.tables["responses"][3]["text"] = "Use {name} or {{name}} in your form letter."


@harmless
def an_answer_is_empty(case: Case) -> None:
    case.tables["responses"][4]["text"] = ""


@harmless
def an_answer_is_a_refusal(case: Case) -> None:
    case.tables["responses"][5] |= {"refused": True, "text": "I cannot help with that."}


@harmless
def one_call_failed(case: Case) -> None:
    case.tables["responses"][6] |= _failed(case.tables["responses"][6])


@harmless
def one_judge_abstained(case: Case) -> None:
    case.tables["judgements"][0] |= _abstained()


@harmless
def a_text_was_mended(case: Case) -> None:
    _reword(case.tables["questions"][0], "It is not urgent.")


@harmless
def a_twin_was_dropped(case: Case) -> None:
    twin = case.first("questions", framing="implicit")
    case.tables["questions"].remove(twin)
    case.tables["dropped"].append(as_dropped(Question.model_validate(twin)).model_dump())


@harmless
def a_copy_was_dropped(case: Case) -> None:
    row = case.tables["questions"][0]
    copy = as_dropped(Question.model_validate(row)).model_dump()
    case.tables["dropped"].append(copy | {"because_of": row["id"]})


@harmless
def a_label_was_judged_against_two_questions(case: Case) -> None:
    row = deepcopy(case.first("label_history", step=0))
    other = case.tables["questions"][1]["id"]
    case.tables["label_history"].append(
        row | {"id": content_id("lc", "other"), "query_id": other, "after": "unlabelled"}
    )


@harmless
def an_effect_has_no_interval(case: Case) -> None:
    case.tables["effects"][0] |= {"low": None, "high": None, "p_value": None, "q_value": None}


@harmless
def a_second_model_answered(case: Case) -> None:
    for row in deepcopy(case.tables["responses"]):
        case.tables["responses"].append(
            row | {"id": content_id("r", row["id"], "other"), "model": "openai:other"}
        )


@harmless
def the_search_asked_too(case: Case) -> None:
    for row in deepcopy(case.tables["responses"]):
        case.tables["responses"].append(row | {"id": content_id("r", row["id"], "search"), "phase": "search"})


@harmless
def a_screen_judged_beside_the_model(case: Case) -> None:
    for row in deepcopy(case.tables["judgements"]):
        screen = {"id": content_id("j", row["id"], "screen"), "judge": "divergence", "rubric": "divergence"}
        verdict = {
            "fitness_form": "divergence",
            "scores": [],
            "fitness": 0.2,
            "p_value": 0.4,
            "abstention": None,
        }
        case.tables["judgements"].append(row | screen | verdict)


@harmless
def another_judge_scored_higher(case: Case) -> None:
    for row in [r for r in case.tables["judgements"] if r["judge"] == JUDGE]:
        case.tables["judgements"].append(
            deepcopy(row) | {"id": content_id("j", row["id"], "b"), "judge": "openai:second-judge"}
        )


@harmless
def a_passage_stands_in_two_rows(case: Case) -> None:
    row = deepcopy(case.first("label_history", step=0))
    passage = {"subject_id": "p1", "subject_kind": "passage", "query_id": "42", "after": "positive"}
    for i in range(2):
        case.tables["label_history"].append(
            row | passage | {"id": content_id("lc", i), "before": "hard_negative"}
        )


@harmless
def all_were_asked_under_a_condition_too(case: Case) -> None:
    for row in deepcopy(case.tables["responses"]):
        other = {"id": content_id("r", row["id"], "persona"), "condition": "persona"}
        case.tables["responses"].append(row | other)


@harmless
def costs_are_rounded_otherwise(case: Case) -> None:
    for i, row in enumerate(case.tables["responses"]):
        row["cost_usd"] += i * 1e-12
    for row in case.tables["judgements"]:
        row["fitness"] = None if row["fitness"] is None else row["fitness"] + 1e-12


@harmless
def a_question_is_in_a_dialect_of_its_language(case: Case) -> None:
    for row in case.tables["questions"]:
        row["language"] = "en-GB"


@harmless
def columns_with_defaults_are_not_there_yet(case: Case) -> None:
    case.reshape["responses"] = lambda t: t.drop_columns(["condition", "log_perplexity"])
    case.reshape["judgements"] = lambda t: t.drop_columns(["pair", "adjudicates"])


@harmless
def a_pair_was_compared_in_both_orders(case: Case) -> None:
    first = deepcopy(case.tables["judgements"][0])
    for repeat, order in enumerate(([0, 1], [1, 0])):
        new = {"id": content_id("j", first["id"], "pair", repeat), "pair": [0, 1], "order": order}
        case.tables["judgements"].append(first | new | {"repeat": repeat})


@harmless_to_release
def the_harness_was_run_here(path: Path) -> None:
    (path / "evals" / "__pycache__").mkdir()
    (path / "evals" / "__pycache__" / "counterfoil_inspect.cpython-311.pyc").write_bytes(b"bytecode")


@harmless_to_release
def version_control_keeps_its_files_beside(path: Path) -> None:
    (path / ".git").mkdir()
    (path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")


@harmless_to_release
def the_manifest_is_laid_out_otherwise(path: Path) -> None:
    _edit_manifest(path, lambda m: None)


# --- how a row is changed


def _edit_manifest(path: Path, change: Callable[[Any], object]) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    change(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def _edit_harness(path: Path, old: str, new: str) -> None:
    """Also renew the hash in the manifest, as an attacker would."""
    file = path / "evals" / "eval.yaml"
    file.write_text(file.read_text().replace(old, new))
    _edit_manifest(path, lambda m: m["files"].update({"evals/eval.yaml": file_hash(file)}))


def _recast(table: pa.Table, column: str, kind: pa.DataType) -> pa.Table:
    values = table[column].combine_chunks()
    changed = values.dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
    return table.set_column(table.column_names.index(column), column, changed)


def _reword(row: Record, sentence: str) -> None:
    """Add a sentence to all variants, like an erratum."""
    row["template"] += " " + sentence
    row["changed_in"] = "1.0.1"
    row["variants"] = [v.model_dump() for v in expand_template(row["template"], row["values"])]


def _expand(row: Record) -> None:
    """Make the row agree with its template."""
    row["variants"] = [v.model_dump() for v in expand_template(row["template"], row["values"])]
    identity = {name: row[name] for name in ("family", "attribute", "framing", "control", "template")}
    row["id"] = question_id(**identity, values=tuple(row["values"]))


def _generate(case: Case, row: Record) -> None:
    case.knowledge = replace(case.knowledge, generated=case.knowledge.generated | {row["id"]})


def _keep(case: Case, wanted: Callable[[Record], bool]) -> None:
    case.tables["questions"] = [q for q in case.tables["questions"] if wanted(q)]


def _failed(row: Record) -> Record:
    """Turn the record of a call into one without an answer."""
    return {
        "scoring": "sampled" if row["option_order"] else "free_text",
        "failure": "timeout",
        "failure_message": "no answer in 60 s",
        "text": "",
        "option": None,
        "option_logprobs": [],
        "finish_reason": None,
    }


def _abstained() -> Record:
    return {"abstention": "unparsable", "scores": [], "fitness": None}


# --- the measurement


@dataclass(frozen=True)
class ChangeFindings:
    """Findings of the gate about one change."""

    change: Change
    found: tuple[str, ...]

    @property
    def as_wanted(self) -> bool:
        return self.change.check in self.found if self.change.check else not self.found


def measure(*, quick: bool = False) -> Iterator[ChangeFindings]:
    """Apply every change on its own. With `quick`, suites run only if a suite must catch the corruption."""
    tables, knowledge = good_tables()
    records = {name: [row.model_dump(mode="json") for row in rows] for name, rows in tables.items()}
    with tempfile.TemporaryDirectory() as room:
        for change in CHANGES:
            if change.of_release:
                path = Path(room) / change.name
                write_release(path, tables, knowledge)
                change.apply(path)
                found = {p.check for p in open_release_files(path).problems}
            else:
                case = Case(deepcopy(records), knowledge)
                change.apply(case)
                suites_by = _no_suite if quick and change.check not in SUITE_CHECKS else _remembered
                found = {p.check for p in examine(case.arrow(), case.knowledge, suites_by).problems}
            yield ChangeFindings(change, tuple(sorted(found)))


SUITE_CHECKS = frozenset(
    {"key_repeated", "id_malformed", "value_missing", "value_not_allowed", "text_empty", *FAULTS}
)
SUITE_CHECKS |= {"language_malformed", "out_of_range", "text_too_long", "not_json", "reference_broken"}

Answer = tuple[list[Problem], SuiteResult]
_answers: dict[tuple[str, ...], Answer] = {}


def _remembered(frame: Frame, known: Mapping[str, pa.Array], failing: FailingByCheck) -> Answer:
    """Return the earlier result of a suite for a frame that the change left alone."""
    ids = str(known["questions"].to_pylist()) if frame.references else ""
    key = (frame.name, str(frame.rows.to_pylist()), ids)
    if key not in _answers:
        _answers[key] = run_suite(frame, known, failing)
    return _answers[key]


def _no_suite(frame: Frame, known: Mapping[str, pa.Array], failing: FailingByCheck) -> Answer:
    return [], SuiteResult(table=frame.name, rows=frame.rows.num_rows, expectations=0, failed=0, result="{}")


def as_markdown(results: Sequence[ChangeFindings]) -> str:
    """Format a table of corruptions with the check that caught each, and a table of harmless changes."""
    corruptions = [r for r in results if r.change.check]
    harmless = [r for r in results if not r.change.check]
    caught, quiet = (sum(r.as_wanted for r in results_of_kind) for results_of_kind in (corruptions, harmless))
    return "\n".join(
        [
            f"## Corruptions: {caught} of {len(corruptions)} caught",
            "",
            "| corruption of tables or of a release | check | caught |",
            "|---|---|---|",
            *(
                f"| {_words(r)} | `{r.change.check}` | {'yes' if r.as_wanted else '**no**'} |"
                for r in corruptions
            ),
            "",
            f"## Harmless changes: {quiet} of {len(harmless)} left alone",
            "",
            "| change | findings |",
            "|---|---|",
            *(f"| {_words(r)} | {', '.join(r.found) or 'nothing'} |" for r in harmless),
        ]
    )


def _words(findings: ChangeFindings) -> str:
    return findings.change.name.replace("_", " ")


def main(arguments: list[str]) -> int:
    """Print the table. Exit with 1 if a corruption was missed or a harmless change reported."""
    results = list(measure(quick="--quick" in arguments))
    caught = sum(r.as_wanted for r in results if r.change.check)
    corruptions = sum(r.change.check is not None for r in results)
    quiet = sum(r.as_wanted for r in results if not r.change.check)
    summary = {
        "corruptions": corruptions,
        "caught": caught,
        "harmless": len(results) - corruptions,
        "not_flagged": quiet,
    }
    if "--markdown" in arguments:
        print(as_markdown(results))
    elif "--json" in arguments:
        rows = [{"change": r.change.name, "check": r.change.check, "found": list(r.found)} for r in results]
        print(json.dumps({**summary, "changes": rows}))
    else:
        for r in results:
            mark = "ok  " if r.as_wanted else "MISS"
            print(f"{mark} {r.change.name:45} {r.change.check or '(harmless)':32} {', '.join(r.found)}")
        print(f"\n{caught} of {corruptions} corruptions caught; {quiet} of {summary['harmless']} left alone")
    return 0 if all(r.as_wanted for r in results) else 1
