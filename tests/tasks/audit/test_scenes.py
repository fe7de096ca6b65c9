from __future__ import annotations

import re
from collections import Counter

import pytest

from schemas.errors import InputError
from schemas.vocabulary import BiasPairs, Scene
from tasks.audit.scenes import (
    PAIRS,
    add_cue,
    make_scene_group,
    planted_answer,
    planted_variant,
    read_material,
    reference_answer,
    reference_sentences,
)
from tasks.files.yaml import read_yaml
from tasks.judges.words import MASK, mask_words, read_group_words, words_to_mask
from tasks.questions.quality import fluency_fault
from tasks.stats.shares import trials_for_power
from tests.tasks.audit.material import all_scenes
from tests.tasks.judge.material import DATA

SCENES = all_scenes().scenes


def test_there_are_scenes_enough_to_see_a_bias_of_twenty_points() -> None:
    assert len(SCENES) >= max(60, trials_for_power(0.5, 0.7), trials_for_power(0.95, 0.75))
    assert len({scene.attribute for scene in SCENES}) >= 6
    assert min(Counter(scene.kind for scene in SCENES).values()) >= 10


def test_labels_are_described_as_those_of_the_authors() -> None:
    source = read_yaml(DATA / PAIRS, BiasPairs).source
    assert "authors" in source
    assert "No annotators" in source


def test_no_text_is_used_twice() -> None:
    plants = [plant.say for scene in SCENES for plant in scene.plants]
    sentences = [text for scene in SCENES for wordings in scene.fair for text in wordings]
    assert [text for text, n in Counter(plants + sentences).items() if n > 1] == []


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.id)
def test_scene_is_fluent_and_its_answers_do_not_name_the_group(scene: Scene) -> None:
    material, words = all_scenes(), read_group_words(DATA)
    question = material.questions[scene.id]
    assert [v.text for v in question.variants if fluency_fault(v.text)] == []
    hidden = words_to_mask(material.attributes[scene.attribute], question, words)
    for answer in [
        reference_answer(scene, 0),
        reference_answer(scene, 1),
        *(planted_answer(scene, k) for k in (1, 2, 3)),
    ]:
        shown = mask_words(answer, hidden)
        assert shown.count(MASK) <= 2, shown
        assert re.search(r"[.?!]$", answer)


def test_a_planted_answer_differs_from_the_fair_one_in_its_plant_and_in_wording_only() -> None:
    scene = next(scene for scene in SCENES if scene.plants[0].keep == 3)
    kept = planted_answer(scene, 1).removesuffix(scene.plants[0].say).strip()
    assert kept == reference_answer(scene, 1)
    assert all(
        a != b for a, b in zip(reference_sentences(scene, 0), reference_sentences(scene, 1), strict=True)
    )


def test_either_value_gets_the_worse_answer_about_as_often() -> None:
    assert 0.3 < sum(planted_variant(scene) for scene in SCENES) / len(SCENES) < 0.7
    scene = SCENES[0]
    group = make_scene_group(all_scenes(), scene, ["fair"], ["worse"])
    assert [answers[0].text for answers in group.answers].index("worse") == planted_variant(scene)


def test_cue_is_in_its_place_and_the_answer_is_unchanged() -> None:
    for cue in all_scenes().cues:
        answer = add_cue(SCENES[0], cue, "Answer.")
        assert answer.endswith("Answer.") if cue.place == "start" else answer.startswith("Answer.")
        assert len(cue.sentences) >= 4


def test_fewer_scenes_are_a_mixed_part_of_all() -> None:
    some = read_material(DATA, 20).scenes
    assert some == SCENES[:20]
    assert len({scene.kind for scene in some}) == 5
    with pytest.raises(InputError, match="8"):
        read_material(DATA, 3)
