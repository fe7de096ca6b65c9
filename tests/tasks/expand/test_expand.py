"""Expansion: exactly the questions that the recipe implies, each rule's victim with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.question import QUESTIONS
from tasks.expand import STAGE, expand, expand_family
from tasks.run.store import RunContext, read_table, run_stage
from tests.conftest import DATA, recipe_of

MakeContext = Callable[..., RunContext]


def test_number_of_questions_excludes_controls() -> None:
    recipe = recipe_of(families={"open": {"questions": 8}}, controls={"a_a": 0.25, "placebo": 0.25})
    kinds = Counter(q.control for q in expand_family(recipe, DATA, "open"))
    assert kinds["none"] == 8
    assert (kinds["a_a"], kinds["placebo"]) == (2, 2)
    assert kinds["neutral"] >= 1


def test_implicit_framing_adds_a_linked_twin_to_every_question() -> None:
    recipe = recipe_of(families={"open": {"questions": 4, "framings": ["explicit", "implicit"]}})
    questions = {q.id: q for q in expand_family(recipe, DATA, "open") if q.control == "none"}
    named = [q for q in questions.values() if q.framing == "implicit"]
    assert len(named) == 4
    for question in named:
        assert question.twin_id is not None
        assert questions[question.twin_id].twin_id == question.id
        assert "a woman" not in question.variants[0].text


def test_same_seed_same_questions_other_seed_others() -> None:
    ids = [[q.id for q in expand_family(recipe_of(seed=s), DATA, "open")] for s in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_forced_choice_families_carry_their_options() -> None:
    recipe = recipe_of(families={"decision": {"questions": 3}})
    for question in expand_family(recipe, DATA, "decision"):
        assert {o.role for o in question.options} == {"yes", "no"}


def test_family_without_a_template_for_the_attribute_is_reported() -> None:
    recipe = recipe_of(families={"completion": {"attributes": ["placebo"]}})
    with pytest.raises(InputError, match="no template"):
        expand_family(recipe, DATA, "completion")


def test_unknown_attribute_lists_those_that_exist() -> None:
    with pytest.raises(InputError) as error:
        expand_family(recipe_of(attributes=["gendr"]), DATA, "open")
    assert "gender" in str(error.value)


def test_stage_reconciles_and_is_not_done_twice(make_context: MakeContext) -> None:
    context = make_context()
    first = run_stage(STAGE, context, families=("open",))
    again = run_stage(STAGE, context, families=("open",))
    assert first == again
    (counts,) = first.counts
    assert counts.rows == counts.kept + counts.dropped
    assert len(read_table(first.table("questions"), QUESTIONS)) == counts.kept


def test_shipped_vocabulary_breaks_no_rule(make_context: MakeContext) -> None:
    outcome = expand(make_context(families={"open": {"questions": 60}}, superdomains=[]), ("open",))
    assert [d.reason for d in outcome.dropped] == []


def test_broken_slot_names_the_template(tmp_path: Path, make_context: MakeContext) -> None:
    import shutil

    data = tmp_path / "data"
    for folder in ("attributes", "taxonomy", "frames", "templates"):
        shutil.copytree(DATA / folder, data / folder)
    broken = data / "templates" / "decision" / "broken.yaml"
    broken.write_text(
        "family: decision\ntitle: t\nsource: s\nlicence: Apache-2.0\nitems:\n"
        "  - {id: bad_one, text: 'Is {{a man/a woman}} late?', superdomain: a, domain: b, topic: c}\n"
    )
    context = make_context(families={"decision": {"templates": ["broken"]}})
    with pytest.raises(InputError) as error:
        expand(context.model_copy(update={"data_dir": str(data)}), ("decision",))
    assert "bad_one" in str(error.value)
    assert "options" in str(error.value)
