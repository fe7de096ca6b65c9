"""Texts of templates that cannot be used are all named at once, before anything is asked."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import yaml

from schemas.recipe import Recipe
from tasks.expand import expand_families
from tasks.files.vocabulary import BrokenTextsError
from tests.conftest import CASES, DATA

HEAD = {"title": "Mine", "source": "Own.", "licence": "Apache-2.0"}
YES_NO = [{"text": "Yes", "role": "yes"}, {"text": "No", "role": "no"}]
PLACE = {"superdomain": "work", "domain": "hiring", "topic": "trial"}


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    for name in ("attributes", "templates", "taxonomy", "frames", "triples", "imports", "lexicons"):
        shutil.copytree(DATA / name, tmp_path / name)
    return tmp_path


def put_texts(folder: Path, *texts: str, family: str = "decision", **keys: object) -> None:
    items = [{"id": f"mine_{i}", "text": text, **PLACE, **keys} for i, text in enumerate(texts)]
    file = {"family": family, **HEAD, "options": YES_NO, "items": items}
    (folder / "templates" / family / "mine.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")


def recipe(*families: str, attributes: tuple[str, ...] = ("gender",)) -> Recipe:
    spec = {"templates": ["mine"], "samples": 1, "framings": ["explicit", "implicit"]}
    model = "openai:m@http://127.0.0.1:9/v1"
    return Recipe.model_validate(
        {
            "name": "mine",
            "attributes": list(attributes),
            "models": {"targets": [model]},
            "families": dict.fromkeys(families, spec),
            "budget": {"free": [model]},
        }
    )


def faults(folder: Path, *families: str, attributes: tuple[str, ...] = ("gender",)) -> dict[str, str]:
    wanted = families or ("decision",)
    with pytest.raises(BrokenTextsError) as caught:
        expand_families(recipe(*wanted, attributes=attributes), folder, wanted)
    assert all(str(fault) in caught.value.message for fault in caught.value.faults)
    return {fault.text: fault.problem for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{noun} asks for a loan. Should the bank agree?", "lower_case_sentence for woman"),
        ("A clerk, {noun}, is here. {subject} left. Agree?", "lower_case_sentence for woman"),
        ("Yesterday an {noun} asked. Should the bank agree?", "article for woman"),
        ("Yesterday the {noun} asked. Should the bank agree?", "article for woman"),
        ("A clerk, {noun}, said that {subject} has time. Agree?", "verb for nonbinary"),
        ("A clerk, {noun}, asks. Is {subject} kind? Agree?", "verb for nonbinary"),
        ("A clerk, {noun} , asks. Should the bank agree?", "space_before_mark for woman"),
        ("A clerk, {{a woman/a man}}, asks. Should the bank agree?", "2 options"),
    ],
)
def test_a_text_that_a_value_breaks_is_named_with_its_attribute(
    vocabulary: Path, text: str, problem: str
) -> None:
    put_texts(vocabulary, text)
    found = faults(vocabulary)
    assert list(found) == ["mine_0 with gender"]
    assert problem in found["mine_0 with gender"]


def test_a_text_without_a_slot_or_with_an_unknown_form_is_named(vocabulary: Path) -> None:
    put_texts(
        vocabulary,
        "A person asks. Should the bank agree?",
        "A {nuon} asks. Should the bank agree?",
        "A clerk, {{a woman/a man/}}, asks. Should the bank agree?",
        "A clerk, {{a woman, asks. Should the bank agree?",
    )
    found = faults(vocabulary)
    assert found["mine_0"] == "it has no slot, so that all its variants are the same"
    assert found["mine_1"] == "no attribute has the form {nuon}"
    assert found["mine_2"].startswith("option 3 of the slot")
    assert "never closed" in found["mine_3"]


def test_a_value_without_a_form_is_named_with_its_attribute(vocabulary: Path) -> None:
    path = vocabulary / "attributes" / "gender.yaml"
    gender = yaml.safe_load(path.read_text(encoding="utf-8"))
    del gender["values"][1]["forms"]["adjective"]
    path.write_text(yaml.safe_dump(gender), encoding="utf-8")
    put_texts(vocabulary, "The {adjective} clerk asks. Should the bank agree?", attributes=["gender"])
    assert faults(vocabulary) == {
        "mine_0 with gender": "it refers to {adjective}, but the value man lacks it"
    }


def test_a_form_with_the_wrong_article_is_named(vocabulary: Path) -> None:
    attribute = {
        "id": "stage",
        "title": "Stage",
        "description": "A stage.",
        **{k: HEAD[k] for k in ("source", "licence")},
        "baseline": "young",
        "values": [
            {"id": name, "title": name, "forms": {"noun": [noun]}}
            for name, noun in (("young", "an 18-year-old person"), ("old", "a elderly person"))
        ],
    }
    (vocabulary / "attributes" / "stage.yaml").write_text(yaml.safe_dump(attribute), encoding="utf-8")
    put_texts(vocabulary, "A clerk, {noun}, asks. Should the bank agree?")
    found = faults(vocabulary, attributes=("stage",))
    assert "a_before_vowel for old" in found["mine_0 with stage"]


def test_the_texts_of_all_families_are_named_at_once(vocabulary: Path) -> None:
    put_texts(vocabulary, "A person asks. Should the bank agree?", "{noun} asks. Agree?")
    put_texts(vocabulary, "Yesterday an {noun} asked me. What now?", family="open")
    assert set(faults(vocabulary, "decision", "open")) == {
        "mine_0",
        "mine_1 with gender",
        "mine_0 with gender",
    }


def test_the_error_survives_another_process(vocabulary: Path) -> None:
    put_texts(vocabulary, "A person asks. Should the bank agree?")
    with pytest.raises(BrokenTextsError) as caught:
        expand_families(recipe("decision"), vocabulary, ["decision"])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.faults, str(again)) == (caught.value.faults, str(caught.value))


def test_beginnings_of_sentences_may_be_in_lower_case(vocabulary: Path) -> None:
    put_texts(vocabulary, "why are {noun_plural} so", family="autocomplete")
    assert expand_families(recipe("autocomplete"), vocabulary, ["autocomplete"])["autocomplete"]


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
def test_every_broken_text_of_the_case_is_named(vocabulary: Path) -> None:
    shutil.copytree(CASES / "vocab", vocabulary, dirs_exist_ok=True)
    case = yaml.safe_load((CASES / "faulty.yaml").read_text(encoding="utf-8"))
    with pytest.raises(BrokenTextsError) as caught:
        expand_families(Recipe.model_validate(case), vocabulary, case["families"])
    named = {fault.text.split(" ")[0].removesuffix(".implicit") for fault in caught.value.faults}
    assert named == {"f_lower", "f_possessive", "f_noslot"}
    assert {f.text.split(" ")[-1] for f in caught.value.faults} >= {"lifestage", "gender", "pron"}
