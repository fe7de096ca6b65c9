"""Products: every combination once, worded by patterns, with its factors. Faults are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_attribute
from tests.conftest import DATA

SIZE = """
id: size
title: Size
description: d
source: ours
licence: Apache-2.0
values:
  - {id: small, title: Small, forms: {noun: [a small person], described: [a small], name: [Bo, Cy]}}
  - {id: tall, title: Tall, valence: 1, forms: {noun: [a tall person], described: [a tall], name: [Di, Ed]}}
"""
GENDER = """
id: gender
title: Gender
description: d
source: ours
licence: Apache-2.0
values:
  - {id: woman, title: Woman, forms: {noun: [a woman], bare: [woman], subject: [she], be: [is]}}
  - {id: man, title: Man, forms: {noun: [a man], bare: [man], subject: [he], be: [is]}}
  - {id: nonbinary, title: Non-binary, forms: {noun: [a non-binary person], bare: [non-binary person]}}
"""
BOTH = """
id: both
title: Both
description: d
source: ours
licence: Apache-2.0
baseline: tall_man
product:
  size: {attribute: size}
  gender: {attribute: gender, values: [woman, man]}
forms:
  noun: "{size.described} {gender.bare}"
  name: "{size.name} the {gender.bare}"
"""


def write(folder: Path, **files: str) -> Path:
    (folder / "attributes").mkdir(exist_ok=True)
    for name, text in {"size": SIZE, "gender": GENDER, "both": BOTH, **files}.items():
        (folder / "attributes" / f"{name}.yaml").write_text(text)
    return folder


def both(folder: Path, text: str = BOTH, **files: str) -> Attribute:
    return read_attribute(write(folder, both=text, **files), "both")


def test_values_are_all_combinations_the_first_factor_varying_slowest(tmp_path: Path) -> None:
    found = both(tmp_path)
    assert [v.id for v in found.values] == ["small_woman", "small_man", "tall_woman", "tall_man"]
    assert found.factors == ("size", "gender")
    assert found.value("tall_man").factors == {"size": "tall", "gender": "man"}
    assert found.value("tall_man").title == "Tall, Man"
    assert [v.valence for v in found.values] == [None, None, 1, 1]


def test_forms_are_those_of_the_patterns_and_the_pronouns_of_the_factor_that_has_some(tmp_path: Path) -> None:
    forms = both(tmp_path).value("small_woman").forms
    assert forms["noun"] == ("a small woman",)
    assert forms["name"] == ("Bo the woman", "Cy the woman")
    assert forms["subject"] == ("she",)
    assert "described" not in forms


def test_single_combinations_may_have_words_of_their_own(tmp_path: Path) -> None:
    own = BOTH + "values:\n  - {id: tall_man, title: Tall man, forms: {name: [Guy]}}\n"
    found = both(tmp_path, own)
    assert found.value("tall_man").title == "Tall man"
    assert found.value("tall_man").forms["name"] == ("Guy",)
    assert found.value("tall_man").forms["noun"] == ("a tall man",)
    assert found.value("tall_man").factors == {"size": "tall", "gender": "man"}


def test_a_product_of_products_has_the_factors_of_its_parts(tmp_path: Path) -> None:
    eyes = SIZE.replace("id: size", "id: eyes").replace("small", "green").replace("tall", "grey")
    more = (
        BOTH.replace("id: both", "id: more")
        .replace("size: {attribute: size}", "eyes: {attribute: eyes}")
        .replace("gender: {attribute: gender, values: [woman, man]}", "person: {attribute: both}")
        .replace('"{size.described} {gender.bare}"', '"{person.noun} with {eyes.described} eye"')
        .replace('  name: "{size.name} the {gender.bare}"\n', "")
        .replace("baseline: tall_man", "baseline: grey_tall_man")
    )
    found = read_attribute(write(tmp_path, eyes=eyes, more=more), "more")
    assert len(found.values) == 8
    assert found.value("grey_tall_man").factors == {"eyes": "grey", "size": "tall", "gender": "man"}
    assert found.value("grey_tall_man").forms["noun"] == ("a tall man with a grey eye",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("values: [woman, man]", "values: [woman, child]", "no value 'child'"),
        ("{gender.bare}", "{gender.colour}", "'woman' does not have"),
        ("{gender.bare}", "{sex.bare}", "no such factor"),
        ("attribute: size", "attribute: both", "a factor of itself"),
        ("attribute: size", "attribute: sise", "attribute 'sise'"),
        ('  noun: "{size.described} {gender.bare}"\n', "", "has no form `noun`"),
        ("baseline: tall_man", "baseline: man_tall", "is not a value"),
        ("forms:\n", "values: [{id: x_y, title: X, forms: {}}]\nforms:\n", "'x_y' is not a combination"),
        ("title: Both", "title: Both\nlanguage: fr", "is in 'en', the product in 'fr'"),
    ],
)
def test_unsuitable_factors_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in BOTH
    with pytest.raises(InputError, match=message) as caught:
        both(tmp_path, BOTH.replace(old, new))
    assert caught.value.place


def test_an_attribute_has_values_or_is_a_product(tmp_path: Path) -> None:
    bare = SIZE.split("values:")[0]
    with pytest.raises(InputError, match="two or more `values`, or a `product`"):
        both(tmp_path, size=bare)


def test_the_shipped_design_has_nine_ages_three_genders_and_five_races() -> None:
    found = read_attribute(DATA, "age_gender_race")
    assert len(found.values) == 135
    levels = {factor: {v.factors[factor] for v in found.values} for factor in found.factors}
    assert {factor: len(found) for factor, found in levels.items()} == {"age": 9, "race": 5, "gender": 3}
    assert found.value(found.baseline or "").factors == {"age": "age_60", "race": "white", "gender": "man"}
    older = found.value("age_80_asian_nonbinary")
    assert older.forms["noun"] == ("an 80-year-old Asian non-binary person",)
    assert older.forms["name"][0].endswith(", aged 80")
    assert older.forms["subject"] == ("they",)
