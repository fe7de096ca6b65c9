"""Changes decide the version: text is a patch, rows are minor, labels and instruments are major."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Judgement
from schemas.errors import GateError
from schemas.labels import DROPPED, LABEL_HISTORY, LabelChange
from schemas.question import LIFECYCLE, QUESTIONS, Question
from schemas.release import Bump, ReleaseComparison
from schemas.tables import Row, Table
from tasks.package.compare import (
    COMPARED,
    STAGE,
    compare_releases,
    first_release,
    with_recipe,
    with_wanted_version,
)
from tasks.questions.quality import drop_question
from tasks.release import CONTROLS, HARD_NEGATIVES, Contents, bump_version
from tasks.run.store import run_stage
from tests.tasks.release.example import (
    a_context,
    a_judgement,
    a_response,
    an_effect,
    example_question,
    small_build,
)


def contents(
    *questions: Question,
    judgements: Sequence[Judgement] | None = None,
    hard_negatives: Sequence[Question] = (),
    text: str = "Talk to them.",
) -> Contents:
    rows: dict[Table[Any], Sequence[Row]] = {
        QUESTIONS: questions,
        HARD_NEGATIVES: hard_negatives,
        CONTROLS: (),
        RESPONSES: [a_response(q, text=text) for q in questions],
        JUDGEMENTS: [a_judgement(q) for q in questions] if judgements is None else judgements,
        EFFECTS: [an_effect("overall", "all", "all", 0.2)],
        LABEL_HISTORY: (),
        DROPPED: (),
    }
    return Contents({table.name: table.to_arrow(found) for table, found in rows.items()})


def changed(old: Contents, new: Contents) -> ReleaseComparison:
    return compare_releases(old, new, "1.2.3")


ONE, OTHER = example_question(), example_question("age")


def test_the_same_tables_are_the_same_version() -> None:
    found = changed(contents(ONE, OTHER), contents(ONE, OTHER))
    assert (found.bump, found.new_version, found.common) == ("none", "1.2.3", 2)
    assert found.fitness_drift == 0.0


def test_added_question_is_minor() -> None:
    found = changed(contents(ONE), contents(ONE, OTHER))
    assert (found.bump, found.new_version, found.added) == ("minor", "1.3.0", (OTHER.id,))


def test_removed_question_is_minor() -> None:
    found = changed(contents(ONE, OTHER), contents(ONE))
    assert (found.bump, found.removed) == ("minor", (OTHER.id,))


def test_mended_text_is_a_patch_although_its_id_and_answers_are_new() -> None:
    old = example_question(template_id="raise", ask="How shoud I respond?")
    new = example_question(template_id="raise", ask="How should I respond?", changed_in="1.2.4")
    found = changed(contents(old, OTHER), contents(new, OTHER))
    assert (found.bump, found.new_version) == ("patch", "1.2.4")
    assert (found.reworded, found.added, found.removed) == ((new.id,), (), ())


def test_other_text_under_the_same_id_is_a_patch() -> None:
    mended = ONE.model_copy(update={"template": ONE.template.replace("usual", "customary")})
    assert changed(contents(ONE), contents(mended)).reworded == (ONE.id,)


def test_two_new_questions_of_one_template_are_not_taken_for_rewording() -> None:
    old = example_question(template_id="raise")
    new = [example_question(template_id="raise", ask=f"What now, {i}?") for i in range(2)]
    found = changed(contents(old), contents(*new))
    assert found.reworded == ()
    assert len(found.added) == 2


def test_label_that_people_changed_is_major() -> None:
    clean = ONE.model_copy(update={"label": "hard_negative"})
    change = LabelChange(
        id="c_1",
        subject_id=ONE.id,
        subject_kind="question",
        query_id=ONE.id,
        step=0,
        before="accepted",
        after="hard_negative",
        reason="reviewed",
        judge="people",
        evidence=None,
        stage="review",
    )
    new = contents(OTHER, hard_negatives=[clean])
    reviewed = Contents({**new.tables, "label_history": LABEL_HISTORY.to_arrow([change])})
    found = changed(contents(ONE, OTHER), reviewed)
    assert (found.bump, found.new_version, found.relabelled) == ("major", "2.0.0", (ONE.id,))


def test_label_that_a_search_flips_is_no_change_of_the_benchmark() -> None:
    clean = ONE.model_copy(update={"label": "hard_negative"})
    found = changed(contents(ONE, OTHER), contents(OTHER, hard_negatives=[clean]))
    assert (found.bump, found.relabelled) == ("minor", ())


def test_metrics_named_after_control_values_may_change() -> None:
    def measured(*metrics: str) -> Contents:
        effects = [
            an_effect("attribute", "gender", "gender", 0.2, family="decision", unit="logits", metric=m)
            for m in metrics
        ]
        return Contents({**contents(ONE).tables, "effects": EFFECTS.to_arrow(effects)})

    found = changed(measured("gap:oak-elm", "coefficient:oak-elm"), measured("gap:sun-moon"))
    assert (found.bump, found.schema_changes) == ("minor", ())
    lost = changed(measured("gap:oak-elm"), measured("gap_of_shares:oak-elm"))
    assert lost.bump == "major"
    assert lost.schema_changes == ("metric gap of decision in logits is no longer reported",)


@pytest.mark.parametrize(
    ("before", "after", "bump"),
    [
        ({}, {"models": {"targets": ["openai:a", "openai:b"]}}, "major"),
        ({}, {"models": {"targets": ["openai:a"], "judges": ["openai:j"]}}, "major"),
        ({}, {"judging": {"rubric": "another"}}, "major"),
        ({}, {"families": {"open": {}, "decision": {}}}, "major"),
        ({}, {"families": {"open": {"temperature": 0.5}}}, "major"),
        ({}, {"families": {"open": {"questions": 50, "samples": 9}}}, "none"),
        ({}, {"budget": {"usd": 3}, "limits": {"attempts": 2}, "seed": 5}, "none"),
        ({}, {"title": "Another"}, "patch"),
    ],
)
def test_recipe_decides_by_its_meaning(before: dict[str, Any], after: dict[str, Any], bump: Bump) -> None:
    base: dict[str, Any] = {
        "name": "x",
        "attributes": ["gender"],
        "models": {"targets": ["openai:a"]},
        "families": {"open": {}},
    }
    same = changed(contents(ONE), contents(ONE))
    found = with_recipe(same, base | before, base | after)
    assert found.bump == bump
    assert bool(found.recipe_changes) == (bump == "major")


def test_another_judge_is_major_because_scores_are_not_comparable() -> None:
    by_other = [a_judgement(ONE, judge="openai:another")]
    found = changed(contents(ONE), contents(ONE, judgements=by_other))
    assert found.bump == "major"
    assert any("openai:another" in change for change in found.schema_changes)


def test_lost_column_is_major() -> None:
    old, new = contents(ONE), contents(ONE)
    cut = Contents({**new.tables, "questions": new.tables["questions"].drop_columns(["topic"])})
    found = changed(old, cut)
    assert (found.bump, found.schema_changes) == ("major", ("questions.topic is gone",))


def test_older_release_without_a_newer_column_can_be_compared() -> None:
    new = contents(ONE)
    old = Contents({**new.tables, "questions": new.tables["questions"].drop_columns(["changed_in"])})
    assert changed(old, new).schema_changes == ("questions.changed_in is new",)


def test_fresh_answers_to_the_same_questions_are_minor() -> None:
    found = changed(contents(ONE), contents(ONE, text="Wait for a week."))
    assert (found.bump, found.other_changes) == ("minor", ("responses: rows 1 with other content",))


def test_drift_is_the_mean_change_over_common_questions() -> None:
    raised = ONE.model_copy(update={"fitness": 0.6})
    found = changed(contents(ONE), contents(raised, OTHER, judgements=[a_judgement(ONE)]))
    assert found.fitness_drift == pytest.approx(0.2)


def test_changed_drop_record_alone_is_a_patch() -> None:
    old = contents(ONE)
    dropped = DROPPED.to_arrow([drop_question(OTHER, stage="mutate", reason="not_a_question")])
    found = changed(old, Contents({**old.tables, "dropped": dropped}))
    assert (found.bump, found.other_changes) == ("patch", ("dropped: rows 1 added",))


@pytest.mark.parametrize(
    ("bump", "version"), [("major", "2.0.0"), ("minor", "1.3.0"), ("patch", "1.2.4"), ("none", "1.2.3")]
)
def test_next_version(bump: Bump, version: str) -> None:
    assert bump_version("1.2.3", bump) == version


def test_version_below_the_required_one_is_refused() -> None:
    with pytest.raises(GateError, match=r"at least 1\.3\.0"):
        with_wanted_version(changed(contents(ONE), contents(ONE, OTHER)), "1.2.4")


def test_higher_version_may_be_asked_for() -> None:
    found = with_wanted_version(changed(contents(ONE), contents(ONE, OTHER)), "3.0.0")
    assert (found.bump, found.new_version) == ("minor", "3.0.0")


def test_first_release_has_the_version_of_the_recipe(tmp_path: Path) -> None:
    assert first_release().new_version == "0.1.0"
    assert with_wanted_version(first_release(), "0.0.7").new_version == "0.0.7"


def test_another_licence_alone_is_a_patch(tmp_path: Path) -> None:
    recipe = a_context(tmp_path).recipe
    old = recipe.model_copy(update={"release": recipe.release.model_copy(update={"licence": "cc0-1.0"})})
    same = changed(contents(ONE), contents(ONE))
    found = with_recipe(same, *(r.model_dump(mode="json", by_alias=True) for r in (old, recipe)))
    assert (found.bump, found.new_version, found.other_changes) == (
        "patch",
        "1.2.4",
        ("card: another licence",),
    )


def test_stage_compares_with_nothing_first(tmp_path: Path) -> None:
    from tasks.package.assemble import STAGE as ASSEMBLE

    context = a_context(tmp_path)
    tables = run_stage(ASSEMBLE, context, **small_build().write(tmp_path / "in")).tables
    step = run_stage(STAGE, context, assembled=list(tables), previous=None)
    assert ReleaseComparison.model_validate_json(step.notes).bump == "first"


def test_every_config_takes_part_in_the_schema_diff() -> None:
    whole = contents(ONE)
    for config in COMPARED:
        rows: Callable[[str], pa.Table] = whole.tables.__getitem__
        last = [name for name in rows(config).column_names if name not in LIFECYCLE][-1]
        fewer = rows(config).drop_columns([last])
        assert changed(whole, Contents({**whole.tables, config: fewer})).bump == "major", config


def test_columns_of_versions_are_no_change_of_the_schema() -> None:
    whole = contents(ONE)
    older = whole.tables["questions"].drop_columns(list(LIFECYCLE))
    assert changed(Contents({**whole.tables, "questions": older}), whole).bump == "none"
