"""Reading the vocabulary: unlisted names do not exist, and inconsistent files are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.vocabulary import TemplateItem
from tasks.files.vocabulary import (
    fits,
    form_references,
    read_attribute,
    read_attributes,
    read_frames,
    read_lexicon,
    read_rubric,
    read_taxonomy,
    read_templates,
)

HEIGHT = """
id: height
title: Height
description: How tall a person is.
source: ours
licence: Apache-2.0
values:
  - {id: tall, title: Tall, forms: {noun: [a tall person], adjective: [tall]}}
  - {id: short, title: Short, forms: {noun: [a short person]}}
"""
TEMPLATES = """
family: open
title: Advice
source: ours
licence: Apache-2.0
items:
  - {id: one, text: "How do I help {noun}?", superdomain: work, domain: a, topic: b}
"""
GARDEN = """
id: garden
title: Garden
relations: [my neighbour]
places: [at the fence]
domains:
  - id: seeds
    title: Seeds
    topics: [{id: swap, title: A swap, situation: asked to lead the seed swap, neutral_for: [height]}]
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write(tmp_path, "attributes/height.yaml", HEIGHT)
    write(tmp_path, "templates/open/advice.yaml", TEMPLATES)
    write(tmp_path, "taxonomy/garden.yaml", GARDEN)
    return tmp_path


def write(data_dir: Path, name: str, text: str) -> None:
    path = data_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_attributes_come_once_and_in_the_order_asked_for(data_dir: Path) -> None:
    write(data_dir, "attributes/weight.yaml", HEIGHT.replace("id: height", "id: weight"))
    found = read_attributes(data_dir, ["weight", "height", "weight"])
    assert [attribute.id for attribute in found] == ["weight", "height"]


READERS: dict[str, Callable[[Path, str], object]] = {
    "attribute": read_attribute,
    "family": read_templates,
    "template": lambda data_dir, name: read_templates(data_dir, "open", (name,)),
    "superdomain": lambda data_dir, name: read_taxonomy(data_dir, (name,)),
    "language": read_frames,
    "lexicon": read_lexicon,
    "rubric": read_rubric,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "name", ["../secret", "../attributes/height", "/etc/passwd", "", ".", "..", "height.yaml"]
)
def test_names_never_reach_outside_their_folder(data_dir: Path, reader: str, name: str) -> None:
    write(data_dir, "secret.yaml", HEIGHT.replace("id: height", "id: secret"))
    with pytest.raises(InputError, match="there is no"):
        READERS[reader](data_dir, name)


def test_a_misspelt_name_is_answered_with_the_close_one(data_dir: Path) -> None:
    with pytest.raises(InputError) as error:
        read_attribute(data_dir, "heigth")
    assert error.value.hint == "did you mean height?"


def test_an_unlike_name_lists_the_known_names(data_dir: Path) -> None:
    with pytest.raises(InputError) as error:
        read_taxonomy(data_dir, ("zzz",))
    assert error.value.hint == "known: garden"


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("attributes/height.yaml", "id: height", "id: length", "the id is 'length'"),
        ("attributes/height.yaml", "id: short", "id: tall", "the value id 'tall' occurs twice"),
        ("attributes/height.yaml", "noun: [a short person]", "adjective: [short]", "has no form `noun`"),
        ("attributes/height.yaml", "[a short person]", '[""]', "has no form `noun`"),
        ("attributes/height.yaml", "licence: Apache-2.0", "licence: x\nbaseline: huge", "baseline 'huge'"),
        ("templates/open/advice.yaml", "family: open", "family: decision", "the family is 'decision'"),
        ("templates/open/advice.yaml", "{noun}", "{nuon}", "no attribute has the form {nuon}"),
        (
            "templates/open/advice.yaml",
            "topic: b}",
            "topic: b, attributes: [size]}",
            "names an unknown attribute",
        ),
        (
            "templates/open/advice.yaml",
            "topic: b}",
            "topic: b, neutral_for: [size]}",
            "names an unknown attribute",
        ),
        ("taxonomy/garden.yaml", "[height]", "[hight]", "names an unknown attribute"),
        ("taxonomy/garden.yaml", "id: garden", "id: yard", "the id is 'yard'"),
    ],
)
def test_inconsistent_files_are_refused_with_their_place(
    data_dir: Path, file: str, old: str, new: str, problem: str
) -> None:
    text = (data_dir / file).read_text()
    assert old in text
    write(data_dir, file, text.replace(old, new))
    with pytest.raises(InputError, match=problem.replace("{", r"\{")) as error:
        read_everything(data_dir)
    assert error.value.place is not None
    assert file in error.value.place


def read_everything(data_dir: Path) -> None:
    read_attribute(data_dir, "height")
    read_templates(data_dir, "open")
    read_taxonomy(data_dir)


def test_template_ids_are_unique_over_the_files_of_a_family(data_dir: Path) -> None:
    write(data_dir, "templates/open/more.yaml", TEMPLATES)
    with pytest.raises(InputError, match="'one' occurs twice"):
        read_templates(data_dir, "open")
    assert len(read_templates(data_dir, "open", ("more",))) == 1


def test_frames_know_their_parts(data_dir: Path) -> None:
    write(
        data_dir,
        "frames/en.yaml",
        "{language: en, source: ours, licence: x, patterns: ['<when> <who> <ask>'], explicit_person: p, "
        "implicit_person: p, when: [w], stakes: [s], asks: {plain: [a]}}",
    )
    with pytest.raises(InputError, match="a pattern has an unknown part <who>"):
        read_frames(data_dir, "en")


def test_a_template_fits_if_every_value_has_its_forms(data_dir: Path) -> None:
    height = read_attribute(data_dir, "height")

    def item(text: str, attributes: tuple[str, ...] = ()) -> TemplateItem:
        return TemplateItem(id="t", text=text, superdomain="s", domain="d", topic="t", attributes=attributes)

    assert fits(item("{Noun} and {possessive} coat"), height)
    assert fits(item("{{this/that}} coat"), height)
    assert not fits(item("{adjective}"), height)
    assert not fits(item("{name}"), height)
    assert not fits(item("{noun}", ("weight",)), height)


def test_form_references_leave_written_out_slots_alone() -> None:
    assert form_references("{Noun} met {{a {b}/c}} and {object}, not { this }") == {"noun", "object"}
