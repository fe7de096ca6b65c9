"""Rules of published benchmarks are checked row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.gate import Finding, Validation
from tasks.gate.benchmarks import compare_sentences, fits_blank
from tasks.gate.examination import GateContext
from tasks.gate.foreign import examine_dataset, read_layouts
from tests.conftest import CASES, DATA

LAYOUTS = read_layouts(DATA)


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def validated(path: Path) -> tuple[Validation, dict[str, Finding]]:
    validation = examine_dataset(path, GateContext(), LAYOUTS).validation
    return validation, {f.check: f for f in validation.findings}


# BBQ.


def bbq(**changes: Any) -> list[dict[str, Any]]:
    """Return one question in both polarities and conditions. The third answer is the unknown one."""
    rows = []
    for polarity in ("neg", "nonneg"):
        for condition in ("ambig", "disambig"):
            row = {
                "question_index": "1",
                "question_polarity": polarity,
                "context_condition": condition,
                "category": "Age",
                "answer_info": {
                    "ans0": ["grandpa", "old"],
                    "ans1": ["grandson", "nonOld"],
                    "ans2": ["Unknown", "unknown"],
                },
                "additional_metadata": {"stereotyped_groups": ["old"]},
                "context": f"A grandpa and a grandson baked bread, {condition}.",
                "question": f"Who burnt it, {polarity}?",
                "ans0": "The grandpa",
                "ans1": "The grandson",
                "ans2": "Unknown",
                "label": 2 if condition == "ambig" else 1,
            }
            rows.append(row | changes)
    return rows


def test_a_sound_question_of_bbq_passes(tmp_path: Path) -> None:
    assert validated(jsonl(tmp_path, bbq()))[1] == {}


def without_tags(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "answer_info"} for row in rows]


@pytest.mark.parametrize("with_tags", [True, False])
@pytest.mark.parametrize(
    ("row", "label", "check"), [(0, 1, "ambiguous_label_known"), (3, 2, "disambiguated_label_unknown")]
)
def test_labels_follow_the_condition(
    tmp_path: Path, row: int, label: int, check: str, with_tags: bool
) -> None:
    rows = bbq()
    rows[row]["label"] = label
    validation, found = validated(jsonl(tmp_path, rows if with_tags else without_tags(rows)))
    assert not validation.passed
    assert (found[check].count, found[check].examples) == (1, (str(row + 1),))


@pytest.mark.parametrize(
    "wording",
    ["Can't be determined", "Cannot be determined", "Not enough info", "Undetermined", "Can\u2019t answer"],
)
def test_the_unknown_answer_is_found_by_its_words(tmp_path: Path, wording: str) -> None:
    assert validated(jsonl(tmp_path, without_tags(bbq(ans2=wording))))[1] == {}


def test_each_row_has_exactly_one_unknown_answer(tmp_path: Path) -> None:
    none, two = without_tags(bbq(ans2="The baker")), without_tags(bbq(ans1="Not known"))
    for row in two:
        row["question_index"] = "2"
    found = validated(jsonl(tmp_path, [*none, *two]))[1]
    assert (found["unknown_option_count"].count, found["unknown_option_count"].severity) == (8, "error")


def test_a_question_has_both_polarities(tmp_path: Path) -> None:
    found = validated(jsonl(tmp_path, bbq()[:2]))[1]
    assert found["polarity_absent"].severity == "error"
    assert "Age · 1 has only neg" in found["polarity_absent"].message


@pytest.mark.parametrize(
    ("groups", "is_sound"),
    [(["old"], True), (["Old"], True), (["rich"], False), (["rich", "old"], True), ([], True)],
)
def test_stereotyped_groups_are_among_the_answers(tmp_path: Path, groups: list[str], is_sound: bool) -> None:
    found = validated(jsonl(tmp_path, bbq(additional_metadata={"stereotyped_groups": groups})))[1]
    assert ("group_not_answered" not in found) == is_sound


def test_answer_tags_as_text_are_read(tmp_path: Path) -> None:
    rows = bbq()
    for row in rows:
        row["answer_info"] = str(row["answer_info"])
        row["ans2"] = "Who knows"
    assert validated(jsonl(tmp_path, rows))[1] == {}


# CrowS-Pairs.


def crows(*pairs: tuple[str, str, Any]) -> list[dict[str, Any]]:
    return [
        {"sent_more": more, "sent_less": less, "stereo_antistereo": label, "bias_type": "age"}
        for more, less, label in pairs
    ]


OLD, YOUNG = "The old man was slow at the till.", "The young man was slow at the till."


def test_class_labels_of_the_hub_are_names(tmp_path: Path) -> None:
    other = ("An old cook burnt it.", "A young cook burnt it.")
    assert validated(jsonl(tmp_path, crows((OLD, YOUNG, 0), (*other, 1))))[1] == {}
    found = validated(jsonl(tmp_path, crows((OLD, YOUNG, 0), (*other, 5))))[1]
    assert found["value_unexpected"].examples == ("2",)


@pytest.mark.parametrize(
    "again", [(OLD, YOUNG, "antistereo"), (YOUNG, OLD, "stereo"), (YOUNG.upper(), OLD, "antistereo")]
)
def test_a_pair_is_not_labelled_both_ways(tmp_path: Path, again: tuple[str, str, str]) -> None:
    found = validated(jsonl(tmp_path, crows((OLD, YOUNG, "stereo"), again)))[1]
    assert found["pair_labelled_both_ways"].examples == ("2",)


def test_pairs_share_their_context(tmp_path: Path) -> None:
    found = validated(jsonl(tmp_path, crows((OLD, "Cats sleep all day.", "stereo"))))[1]
    assert found["pair_without_context"].severity == "error"


def test_differences_beyond_the_target_are_reported(tmp_path: Path) -> None:
    rows = crows((OLD, "The young man was quick at the till.", "stereo"))
    validation, found = validated(jsonl(tmp_path, rows))
    assert validation.passed
    assert "'slow' against 'quick'" in found["pair_differs_elsewhere"].message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("He lost his keys.", "She lost her keys."),
        ("John said he was late.", "Mary said she was late."),
        ("Old men like old songs.", "Young men like young songs."),
    ],
)
def test_pronouns_and_repetitions_belong_to_the_target(first: str, second: str) -> None:
    assert compare_sentences(first, second)[1] == []


# StereoSet.


def stereoset(context: str = "The chef is BLANK.", **sentences: str) -> dict[str, Any]:
    texts = {"stereotype": "The chef is loud.", "anti-stereotype": "The chef is calm."}
    texts |= {"unrelated": "The chef is lake"} | {k.replace("_", "-"): v for k, v in sentences.items()}
    return {
        "target": "chef",
        "bias_type": "profession",
        "context": context,
        "sentences": {"sentence": list(texts.values()), "gold_label": list(texts)},
    }


def test_nested_rows_of_the_hub_are_read(tmp_path: Path) -> None:
    row = stereoset()
    row["sentences"]["gold_label"] = [1, 0, 2]
    validation, found = validated(jsonl(tmp_path, [row]))
    assert (found, validation.layouts["a.jsonl"][:9]) == ({}, "StereoSet")
    row["sentences"]["gold_label"] = [1, 0, 3]
    assert validated(jsonl(tmp_path, [row]))[1]["value_unexpected"].examples == ("1",)


def test_lists_of_records_and_the_original_file_are_read(tmp_path: Path) -> None:
    row = stereoset()
    names = row["sentences"]
    row["sentences"] = [
        {"sentence": s, "gold_label": g, "labels": [{"human_id": "x", "label": g}]}
        for s, g in zip(names["sentence"], names["gold_label"], strict=True)
    ]
    assert validated(jsonl(tmp_path, [row]))[0].layouts
    follows = row | {"context": "The chef came in.", "target": "cook"}
    path = tmp_path / "dev.json"
    data = {"version": "1", "data": {"intrasentence": [row], "intersentence": [follows]}}
    path.write_text(json.dumps(data), encoding="utf-8")
    validation, found = validated(path)
    assert (found, list(validation.layouts)) == ({}, ["dev.json"])


@pytest.mark.parametrize("context", ["The chef is BLANK and BLANK.", "The chef is here."])
def test_a_context_has_one_blank(tmp_path: Path, context: str) -> None:
    other = stereoset("The nurse is BLANK.", stereotype="The nurse is kind.")
    other["sentences"]["sentence"][1:] = ["The nurse is rude.", "The nurse is blue."]
    found = validated(jsonl(tmp_path, [other, stereoset(context)]))[1]
    assert found["blank_count"].examples == ("2",)


def test_sentences_fit_their_context(tmp_path: Path) -> None:
    found = validated(jsonl(tmp_path, [stereoset(), stereoset(unrelated="Lakes are blue.")]))[1]
    assert found["sentence_unfit"].examples == ("2",)
    assert "'Lakes are blue.'" in found["sentence_unfit"].message


@pytest.mark.parametrize(
    ("context", "sentence", "fits"),
    [
        ("BLANK chefs are here.", "Loud chefs are here", True),
        ("The chef's soup is BLANK.", "The chef\u2019s soup  is hot!", True),
        ("The chef is BLANK.", "The chef is", False),
        ("The chef is BLANK today.", "The chef is loud.", False),
    ],
)
def test_case_and_marks_do_not_matter_for_a_fit(context: str, sentence: str, fits: bool) -> None:
    assert fits_blank(context, sentence) == fits


# discrim-eval.


@pytest.mark.parametrize("ages", [(20, 60), (20, 60, 100)])
def test_a_missing_cell_of_the_design_is_named(tmp_path: Path, ages: tuple[int, ...]) -> None:
    rows: list[dict[str, Any]] = [
        {"decision_question_id": q, "age": a, "race": r, "gender": g, "filled_template": f"{q} {a} {r} {g}"}
        for q in (7, 8)
        for a in ages
        for r in ("white", "Black")
        for g in ("male", "female")
    ]
    assert validated(jsonl(tmp_path, rows))[1] == {}
    found = validated(jsonl(tmp_path, rows[:-1]))[1]["set_incomplete"]
    assert (found.count, found.examples, found.excerpt) == (1, ("8",), "")
    assert f"8 lacks Black · female · {ages[-1]}" in found.message
    without_age = [{k: v for k, v in row.items() if k != "age"} for row in rows]
    assert "set_incomplete" not in validated(jsonl(tmp_path, without_age))[1]


# CAB.


def test_options_of_cab_that_belong_to_no_value_are_named(tmp_path: Path) -> None:
    row = {"attribute": "gender", "expl_impl": "explicit", "superdomain": "w", "domain": "d", "topic": "t"}
    examples = [
        "My neighbour, {{a man/woman}}, is late. What now?",
        "My neighbour, {{a man/a woman}}, lost {{her/his}} key. What now?",
        "My neighbour, {{a zork/a blax}}, is late. What now?",
        "My neighbour is late. What now?",
    ]
    found = validated(jsonl(tmp_path, [row | {"example": e} for e in examples]))[1]
    assert found["options_unmatched"].examples == ("2", "3")
    assert "contradict" in found["options_unmatched"].message
    assert found["template_without_slot"].examples == ("4",)


# The files of public reports, if they are there.


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("bbq_ok.jsonl", {}),
        ("bbq_ambiguous_label_is_a_person.jsonl", {"ambiguous_label_known": 4}),
        ("bbq_three_unknowns.jsonl", {"unknown_option_count": 4, "group_not_answered": 4}),
        ("crows_hub_ints.csv", {}),
        ("stereoset_hub_nested.jsonl", {}),
        ("discrim_missing_cell.jsonl", {"set_incomplete": 1}),
    ],
)
def test_findings_of_the_cases(name: str, checks: dict[str, int]) -> None:
    validation, found = validated(CASES / "val" / name)
    assert validation.layouts
    assert {check: f.count for check, f in found.items()} == checks
