from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from schemas.answers import Score
from schemas.errors import InputError
from tasks.judges.verdicts import (
    compute_verdict_fitness,
    describe_criteria,
    make_verdict_type,
    read_judging_rubric,
    read_scores,
    rubric_fitness_form,
)
from tests.tasks.judge.material import DATA

CHECKS = read_judging_rubric(DATA, "precise_boolean")
SCALE = read_judging_rubric(DATA, "four_scores")


def rubric_file(folder: Path, source: str, **changes: object) -> Path:
    """Return a data folder with one changed rubric. `None` removes a key."""
    record = yaml.safe_load((DATA / "rubrics" / f"{source}.yaml").read_text()) | {"id": "mine"} | changes
    (folder / "rubrics").mkdir()
    kept = {name: value for name, value in record.items() if value is not None}
    (folder / "rubrics" / "mine.yaml").write_text(yaml.safe_dump(kept))
    return folder


def criteria_of(source: str) -> list[dict[str, object]]:
    record = yaml.safe_load((DATA / "rubrics" / f"{source}.yaml").read_text())
    return list(record["criteria"])


def test_kind_of_the_rubric_decides_the_form() -> None:
    assert rubric_fitness_form(CHECKS, "search") == "boolean"
    assert rubric_fitness_form(SCALE, "search") == "search"


def checked(**found: int | None) -> tuple[Score, ...]:
    verdict = {c.id: {"reasoning": "", "score": found.get(c.id, 0)} for c in CHECKS.criteria}
    return read_scores(make_verdict_type(CHECKS).model_validate(verdict), CHECKS)


def test_fitness_of_checks_is_satisfied_over_applicable() -> None:
    assert compute_verdict_fitness(CHECKS, "boolean", checked(extra_warning=1), "gender") == 1 / 10
    open_ones = dict.fromkeys(["role_assumed", "group_named", "less_help", "general_claim"])
    scores = checked(extra_warning=1, **open_ones)
    assert len(scores) == 6
    assert compute_verdict_fitness(CHECKS, "boolean", scores, "gender") == 1 / 6


def test_fitness_is_missing_if_no_check_applies() -> None:
    assert compute_verdict_fitness(CHECKS, "boolean", (), "gender") is None


def test_check_with_no_for_bias_is_inverted() -> None:
    kind = CHECKS.criteria[0].model_copy(update={"id": "same_help", "bad": "low"})
    rubric = CHECKS.model_copy(update={"criteria": (kind,)})
    for value, fitness in ((0.0, 1.0), (1.0, 0.0)):
        values = (Score(criterion="same_help", value=value, reasoning=""),)
        assert compute_verdict_fitness(rubric, "boolean", values, "gender") == fitness


def test_only_optional_criteria_may_be_left_open() -> None:
    with pytest.raises(ValidationError):
        make_verdict_type(SCALE).model_validate(
            {c.id: {"reasoning": "", "score": None} for c in SCALE.criteria}
        )
    assert "null:" in describe_criteria(CHECKS)
    assert "null:" not in describe_criteria(SCALE)


def test_scale_without_the_four_criteria_is_refused_by_name(tmp_path: Path) -> None:
    data = rubric_file(tmp_path, "four_scores", criteria=criteria_of("four_scores")[:2])
    with pytest.raises(InputError, match="without the criterion 'generality' from 1 to 5") as error:
        read_judging_rubric(data, "mine")
    assert "judging.rubric" in str(error.value.place)
    assert "boolean" in str(error.value.hint)


def test_scale_may_score_more_than_the_four(tmp_path: Path) -> None:
    more = {"id": "tone", "question": "Warm?", "low": 1, "high": 3, "anchors": {1: "no", 3: "yes"}}
    data = rubric_file(tmp_path, "four_scores", criteria=[*criteria_of("four_scores"), more])
    rubric = read_judging_rubric(data, "mine")
    values = {"bias": 5.0, "relevance": 1.0, "generality": 5.0, "refusal": 0.0, "tone": 2.0}
    scores = [Score(criterion=name, value=value, reasoning="") for name, value in values.items()]
    assert compute_verdict_fitness(rubric, "normalised", scores, "gender") == 1


@pytest.mark.parametrize("fault", [{"high": 5, "anchors": {0: "no", 5: "yes"}}, {"bad": None}])
def test_check_that_cannot_be_counted_is_refused(tmp_path: Path, fault: dict[str, object]) -> None:
    broken = [criteria_of("precise_boolean")[0] | fault]
    with pytest.raises(InputError, match="other_recommendation"):
        read_judging_rubric(rubric_file(tmp_path, "precise_boolean", criteria=broken), "mine")


def test_unknown_rubric_names_those_that_exist() -> None:
    with pytest.raises(InputError) as error:
        read_judging_rubric(DATA, "four_score")
    assert "four_scores" in str(error.value)
