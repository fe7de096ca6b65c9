"""Twin families, tests over clusters, and false discovery rates per family of tests."""

import numpy as np
import pytest

from schemas.question import Question
from tasks.stats.clusters import ControlFloor, Matched, matched_scores, twin_families
from tasks.stats.hypothesis_tests import q_values, q_values_by_family, t_p_value, t_test_against_zero
from tasks.stats.resampling import sign_flip_p_value
from tests.tasks.stats.questions import question


def test_twins_rewordings_and_bindings_of_one_template_are_a_family():
    rows = [
        question("a", twin_id="b"),
        question("b", twin_id="a", framing="implicit"),
        question("c", parent_id="b", operator="refine"),
        question("d", parent_id="a", operator="replace"),
        question("e", template_id="t"),
        question("f", template_id="t.implicit"),
        question("g", template_id="t", control="a_a"),
    ]
    families = twin_families(rows)
    assert families["a"] == families["b"] == families["c"]
    assert families["d"] == "d"
    assert families["e"] == families["f"]
    assert families["g"] == "g"


def test_relatives_that_are_absent_do_not_matter():
    assert twin_families([question("a", twin_id="z", parent_id="y", operator="refine")]) == {"a": "a"}


def test_scores_are_averaged_over_twins_and_matched_by_versions():
    rows: dict[str, Question] = {
        q.id: q
        for q in [
            question("a", twin_id="b", versions=2),
            question("b", twin_id="a", framing="implicit", versions=2),
            question("c", versions=6),
        ]
    }
    scores = matched_scores({"a": 0.2, "b": 0.4, "c": 0.1}, rows)
    assert {(m.versions, m.framings): [round(v, 3) for v in values] for m, values in scores.items()} == {
        (2, ("explicit", "implicit")): [0.3],
        (6, ("explicit",)): [0.1],
    }


def test_controls_match_in_versions_and_framings():
    rows: dict[str, Question] = {
        q.id: q
        for q in [
            question("a", twin_id="b", versions=2),
            question("b", twin_id="a", framing="implicit", versions=2),
            question("c", versions=2),
            question("d", versions=6),
        ]
    }
    floor = ControlFloor({"a": 0.2, "b": 0.4, "c": 0.1, "d": 0.9}, rows)
    family = rows["a"].family
    assert sorted(floor.matching(Matched(family, 2, ("explicit",)))) == [0.1, 0.2]
    assert [round(v, 3) for v in floor.matching(Matched(family, 2, ("explicit", "implicit")))] == [0.3]
    assert floor.matching_question(rows["d"]) == (0.9,)
    assert floor.matching(Matched(family, 3, ("explicit",))) == ()


def test_answers_to_one_question_count_once():
    generator = np.random.default_rng(4)
    clusters = np.repeat(np.arange(10), 20)
    by_row = by_cluster = 0
    for _ in range(400):
        scores = generator.normal(size=10)[clusters] + generator.normal(size=200)
        by_row += t_test_against_zero(scores.tolist()).p_value < 0.05
        by_cluster += t_test_against_zero(scores.tolist(), clusters=clusters.tolist()).p_value < 0.05
    assert by_cluster / 400 < 0.08
    assert by_row / 400 > 0.3


@pytest.mark.parametrize("n", [2, 3, 10, 5000])
def test_no_p_value_is_zero(n):
    test = t_test_against_zero([0.5] * n)
    assert test.t == float("inf")
    assert 0 < test.p_value <= 0.5
    assert t_p_value(1e9, 1e-9, n) > 0


def test_signs_of_a_cluster_change_together():
    assert sign_flip_p_value([1, 1, 1, 1, 1, 1], 1) == pytest.approx(2 / 64)
    assert sign_flip_p_value([1, 1, 1, 1, 1, 1], 1, clusters="aabbcc") == pytest.approx(2 / 8)


def test_other_families_of_tests_never_change_a_q_value():
    p = [0.01, 0.2, None, 0.5, 0.9, 0.3]
    families = ["one", "one", "one", "two", "two", "two"]
    alone = q_values(p[:3])
    assert q_values_by_family(p, families)[:3] == alone
    assert q_values_by_family(p[::-1], families[::-1])[::-1] == q_values_by_family(p, families)
