from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import GateError, InputError
from schemas.gate import Passport, ProbeResult, passport_key
from schemas.recipe import Bar
from tasks.audit.passports import collect_passports
from tasks.judges.passports import (
    audit_warnings,
    deciding_judges,
    find_passport,
    passport_path,
    required_passport_key,
    without_endpoints,
    write_passport,
)
from tests.tasks.audit.material import recipe_judged_by
from tests.tasks.judge.material import make_context

JUDGE = "openai:judge@http://127.0.0.1:9/v1"
SECTIONS = {"models": {"targets": ["embedded:smollm2-135m"], "judges": [JUDGE]}}


def passport_for(tmp_path: Path, recall: float = 1.0, **judging: object) -> Passport:
    """One that a recipe with this judging finds."""
    context = make_context(tmp_path, **SECTIONS, judging=judging)
    from tasks.judges.comparison import read_comparison_judge

    setup = read_comparison_judge(context, JUDGE, {}).setup
    result = ProbeResult(probe="planted", measure="recall_2", value=recall, n=62, asked=62)
    return Passport(
        judge=JUDGE,
        revision=None,
        rubric=setup.rubric,
        rubric_hash=setup.rubric_hash,
        prompt_hash=setup.prompt_hash,
        comparison=context.recipe.judging.comparison,
        scenes=62,
        probes=(result,),
    )


def test_passport_is_found_again_by_judge_rubric_prompt_and_comparison(tmp_path: Path) -> None:
    passport = passport_for(tmp_path)
    path = write_passport(tmp_path / "passports", passport)
    context = make_context(tmp_path, **SECTIONS)
    assert find_passport(tmp_path / "passports", JUDGE, required_passport_key(context, JUDGE)) == passport
    assert path.name.startswith("openai-judge-http-127-0-0-1-9-v1-")
    for other in ({"rubric": "precise_boolean"}, {"comparison": "pairwise"}):
        key = required_passport_key(make_context(tmp_path, **SECTIONS, judging=other), JUDGE)
        assert find_passport(tmp_path / "passports", JUDGE, key) is None


def test_name_of_a_judge_never_becomes_a_path(tmp_path: Path) -> None:
    path = passport_path(tmp_path, "openai:../../etc/passwd@http://x/", passport_key("j", "r", "p", "c"))
    assert path.parent == tmp_path
    assert "/" not in path.name


def test_broken_passport_names_the_next_step(tmp_path: Path) -> None:
    path = write_passport(tmp_path, passport_for(tmp_path))
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read") as error:
        find_passport(tmp_path, JUDGE, required_passport_key(make_context(tmp_path, **SECTIONS), JUDGE))
    assert "audit the judge again" in str(error.value)


def test_stop_names_judge_probe_value_bar_and_command(tmp_path: Path) -> None:
    context = make_context(tmp_path, **SECTIONS, judging={"audit": "stop"})
    with pytest.raises(GateError, match="no passport") as error:
        collect_passports(context, tmp_path / "passports", make_own=True)
    assert f"counterfoil audit-judge {JUDGE} --rubric four_scores --comparison all_at_once" in str(
        error.value
    )
    write_passport(tmp_path / "passports", passport_for(tmp_path, recall=0.4))
    with pytest.raises(GateError, match=r"planted: .* 0\.40, and the bar is at least 0\.60") as error:
        collect_passports(context, tmp_path / "passports", make_own=True)
    assert JUDGE in str(error.value)
    assert error.value.exit_code == 3


def test_stop_lets_a_judge_above_the_bar_pass(tmp_path: Path) -> None:
    passport = passport_for(tmp_path)
    write_passport(tmp_path / "passports", passport)
    context = make_context(tmp_path, **SECTIONS, judging={"audit": "stop"})
    assert collect_passports(context, tmp_path / "passports", make_own=True) == (passport,)


def test_warn_continues_with_a_warning(tmp_path: Path) -> None:
    recipe = recipe_judged_by(JUDGE)
    context = make_context(tmp_path, **SECTIONS)
    assert collect_passports(context, tmp_path, make_own=True) == ()
    assert audit_warnings(recipe, ()) == (f"{JUDGE} was not audited",)
    weak = passport_for(tmp_path, recall=0.4)
    assert audit_warnings(recipe, (weak,)) == (f"{JUDGE}: {weak.shortfalls(Bar())[0]}",)
    assert audit_warnings(recipe, (passport_for(tmp_path),)) == ()
    assert without_endpoints(recipe, audit_warnings(recipe, ())) == ("judge was not audited",)


def test_off_looks_at_nothing(tmp_path: Path) -> None:
    write_passport(tmp_path, passport_for(tmp_path))
    context = make_context(tmp_path, **SECTIONS, judging={"audit": "off"})
    assert collect_passports(context, tmp_path, make_own=True) == ()


def test_divergence_judge_gets_its_passport_from_the_build(tmp_path: Path) -> None:
    context = make_context(tmp_path, judging={"audit": "stop"})
    assert collect_passports(context, tmp_path, make_own=False) == ()
    (passport,) = collect_passports(context, tmp_path, make_own=True)
    assert passport.judge == "divergence"
    assert passport.shortfalls(Bar()) == ()
    assert collect_passports(context, tmp_path, make_own=False) == (passport,)


def test_adjudicator_needs_a_passport_only_if_something_is_judged() -> None:
    models = {"targets": ["embedded:smollm2-135m"], "judges": [JUDGE], "adjudicator": "openai:gpt-5"}
    assert deciding_judges(recipe_judged_by(models=models)) == (JUDGE, "openai:gpt-5")
    assert deciding_judges(recipe_judged_by(JUDGE, families={"completion": {}})) == ()
