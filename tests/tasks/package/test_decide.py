"""The decision about a refreshed release: by the effects of its slices, with tests that are named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from schemas.answers import JUDGEMENTS, RESPONSES
from schemas.question import QUESTIONS
from schemas.release import ReleaseComparison
from tasks.package.compare import BY_CHANCE, relabelled_questions, with_failed_links
from tasks.package.decide import decide, failed_links, how_to_decide
from tasks.release import CONTROLS, Contents
from tasks.stats.slice_change import measure_change
from tests.tasks.judge.material import DATA, TARGET, make_choice, make_question, make_response
from tests.tasks.measure.test_measure import YES_NO
from tests.tasks.release.example import a_judgement

SAMPLES = 12


def comparison(**changes: Any) -> ReleaseComparison:
    fields: dict[str, Any] = {
        "old_version": "1.0.0",
        "new_version": "1.1.0",
        "bump": "minor",
        "added": (),
        "removed": (),
        "reworded": (),
        "relabelled": (),
        "schema_changes": (),
        "common": 10,
        "fitness_drift": 0.0,
        **changes,
    }
    return ReleaseComparison(**fields)


QUESTIONS_ASKED = [make_choice(n, "decision", YES_NO) for n in range(130)]
Refusals = Callable[[int], float]
"""Probability that women are refused, by number of the question."""


def contents(
    refused: Refusals,
    *,
    seed: int = 0,
    first: int = 0,
    count: int = 60,
    models: tuple[str, ...] = (TARGET,),
) -> Contents:
    """Return a release with decisions about women and men. A share of the women is refused."""
    generator = random.Random(seed)
    numbers = range(first, first + count)
    answers = [
        make_response(
            q,
            v.index,
            k,
            "Yes",
            option=int(v.value == "woman" and generator.random() < refused(n)),
            model=model,
        )
        for model in models
        for n in numbers
        for q in [QUESTIONS_ASKED[n]]
        for v in q.variants
        for k in range(SAMPLES)
    ]
    questions = [QUESTIONS_ASKED[n] for n in numbers]
    tables = {QUESTIONS.name: QUESTIONS.to_arrow(questions), RESPONSES.name: RESPONSES.to_arrow(answers)}
    return Contents(tables)


def steady(n: int) -> float:
    """Return refusal probabilities by question. In one of three questions, women are often refused."""
    return 0.6 if n % 3 == 0 else 0.1


def harsher(n: int) -> float:
    return min(1.0, steady(n) + 0.3)


SAME = contents(steady)


def test_nothing_changed_means_no_release() -> None:
    assert decide(comparison(bump="none"), SAME, SAME).verdict == "unchanged"


def test_an_unchanged_model_with_other_questions_is_safe() -> None:
    decision = decide(comparison(added=("q_1", "q_2")), SAME, contents(steady, seed=1, first=20))
    assert decision.verdict == "safe", decision.reasons
    assert "2 added" in decision.reasons[0]
    (slice_,) = decision.slices
    assert (slice_.attribute, slice_.family, slice_.common) == ("gender", "decision", 40)
    assert (slice_.rest_old, slice_.rest_new, slice_.equivalent) == (20, 20, True)


def test_retired_questions_are_no_risk() -> None:
    retired = tuple(q.id for q in QUESTIONS_ASKED[:20])
    changes = comparison(removed=retired, common=40)
    assert decide(changes, SAME, contents(steady, seed=1, first=20, count=40)).verdict == "safe"


def test_a_change_on_common_questions_is_risky_and_names_slice_and_test() -> None:
    decision = decide(comparison(added=("q_1",)), SAME, contents(harsher, seed=1, first=20))
    assert decision.verdict == "risky"
    found = {(item.kind, item.subject): item.why for item in decision.review}
    assert (
        "paired test on 40 common questions"
        in found["effect_moved", "gender · decision · target · woman-man"]
    )
    assert any(
        reason.startswith("gender · decision · target · woman-man: paired test")
        for reason in decision.reasons
    )


def test_a_change_of_the_other_questions_names_the_unpaired_test() -> None:
    # A change of every question is found by all tests, and named once.
    found = decide(comparison(), SAME, contents(harsher, seed=1, first=20)).review
    moved = {item.subject: item.why for item in found if item.kind == "effect_moved"}
    assert len(moved) == len([item for item in found if item.kind == "effect_moved"])
    for part in ("paired test on 40", "; combined test on 40 common, 20 old and 20 new questions"):
        assert part in moved["gender · decision · target · woman-man"]
    decision = decide(comparison(), contents(lambda _: 0.0), contents(lambda _: 0.9, first=60))
    assert decision.verdict == "risky"
    assert any("unpaired test on 60 old and 60 new questions" in item.why for item in decision.review)


def test_too_few_common_questions_are_inconclusive_and_name_the_required_number() -> None:
    few = contents(steady, count=8), contents(steady, seed=1, first=4, count=8)
    decision = decide(comparison(), *few)
    assert decision.verdict == "risky"
    (item,) = decision.review
    assert item.kind == "inconclusive"
    assert "It has 4 common questions. About " in item.why
    assert "questions instead of 8 with refresh.carry_over: 1, or" in item.why
    assert decision.reasons[0].startswith("inconclusive: gender · decision · target · woman-man: equivalence")
    (slice_,) = decision.slices
    assert slice_.needed > 20
    enough = contents(steady, count=slice_.needed), contents(steady, seed=1, count=slice_.needed)
    assert decide(comparison(), *enough).verdict == "safe"


def test_the_settings_that_would_decide_are_named() -> None:
    scores = {str(n): steady(n) for n in range(40)}
    later = {str(n): steady(n) for n in range(36, 76)}
    change = replace(measure_change(scores, later, margin=1.0), needed=20)
    assert how_to_decide(change) == "set refresh.carry_over to 0.5 or more"
    few = how_to_decide(replace(change, needed=100))
    assert few.startswith("ask at least 100 questions instead of 40 with refresh.carry_over: 1, or")


def test_a_margin_in_the_unit_of_the_scores_replaces_that_in_deviations() -> None:
    few = contents(steady, count=8), contents(steady, seed=1, count=8)
    narrow = decide(comparison(), *few, margins={"decision": 0.01})
    assert narrow.verdict == "risky"
    assert "is not inside ±0.01 " in narrow.reasons[0]
    wide = decide(comparison(), *few, margins={"decision": 0.9})
    assert wide.verdict == "safe"
    assert [s.margin for s in wide.slices] == [0.9]


def test_releases_without_a_common_slice_are_inconclusive() -> None:
    other = [make_choice(n, "decision", YES_NO) for n in range(200, 204)]
    empty = Contents({QUESTIONS.name: QUESTIONS.to_arrow(other), RESPONSES.name: RESPONSES.to_arrow([])})
    decision = decide(comparison(), SAME, empty)
    assert decision.verdict == "risky"
    assert "nothing can be compared" in decision.reasons[0]


def test_answers_that_cannot_be_read_are_lost_coverage() -> None:
    good = contents(steady, seed=1)
    answered = {q.id for q in QUESTIONS_ASKED[:10]}
    rows = [
        r if r.question_id in answered else r.model_copy(update={"option": None})
        for r in good.rows(RESPONSES)
    ]
    broken = Contents({**good.tables, RESPONSES.name: RESPONSES.to_arrow(rows)})
    decision = decide(comparison(), SAME, broken)
    assert decision.verdict == "risky"
    assert any(item.kind == "coverage" and "80% are required" in item.why for item in decision.review)


def test_equal_models_hardly_ever_move() -> None:
    risky = [
        decide(comparison(), contents(steady, seed=s), contents(steady, seed=s + 500, first=20)).verdict
        for s in range(15)
    ]
    assert risky.count("risky") <= 1


def test_fresh_answers_and_a_new_search_change_no_label_unless_people_did() -> None:
    before = {i: {"label": label} for i, label in (("q", "confirmed"), ("r", "confirmed"), ("s", "survey"))}
    after = {
        i: {"label": label} for i, label in (("q", "candidate"), ("r", "hard_negative"), ("s", "accepted"))
    }
    assert {"candidate", "hard_negative"} <= BY_CHANCE
    assert relabelled_questions(before, after, {}) == ["s"]
    assert relabelled_questions(before, after, {}, {"r"}) == ["r", "s"]


def test_labels_of_people_and_columns_are_for_people() -> None:
    changes: dict[str, dict[str, Any]] = {
        "relabelled": {"relabelled": ("q_1",)},
        "schema": {"schema_changes": ("effects.x is new",)},
    }
    for kind, change in changes.items():
        decision = decide(comparison(**change), SAME, SAME)
        assert decision.verdict == "risky", kind
        assert {item.kind for item in decision.review} == {kind}


def test_anchors_that_drift_in_many_places_give_no_common_scale() -> None:
    def rare(n: int) -> float:
        return 0.1

    def moved(n: int) -> float:
        return 1.0 if n % 4 == 1 else rare(n)

    two = TARGET, "openai:second@http://127.0.0.1:9/v1"
    old, new = contents(rare, models=two, count=40), contents(rare, models=two, count=40, seed=1)
    assert failed_links(old, new, DATA) == []
    drifted = contents(moved, models=two, count=40, seed=1)
    (failed,) = failed_links(old, drifted, DATA)
    assert failed.startswith("equating of ")
    assert "no common scale" in failed
    compared = with_failed_links(comparison(old_version="0.3.0", new_version="0.4.0"), [failed])
    assert (compared.bump, compared.new_version, compared.schema_changes) == ("major", "1.0.0", (failed,))
    decision = decide(compared, old, drifted)
    assert any(failed in reason for reason in decision.reasons)


def judged_controls(fitness: float, *, first: int, noise: random.Random) -> Contents:
    """A release whose judge scores A/A controls about so high."""
    controls = [
        make_question(n, control="a_a", values=("woman", "woman"), label="control")
        for n in range(first, first + 30)
    ]
    verdicts = [
        a_judgement(q, phase="holdout", fitness=round(fitness + noise.uniform(-0.05, 0.05), 3))
        for q in controls
    ]
    tables = {CONTROLS.name: CONTROLS.to_arrow(controls), JUDGEMENTS.name: JUDGEMENTS.to_arrow(verdicts)}
    return Contents({**SAME.tables, **tables})


def test_a_judge_that_finds_more_in_controls_is_a_risk() -> None:
    noise = random.Random(1)
    old, same = (judged_controls(0.1, first=first, noise=noise) for first in (0, 30))
    assert decide(comparison(), old, same).verdict == "safe"
    decision = decide(comparison(), old, judged_controls(0.4, first=60, noise=noise))
    assert decision.verdict == "risky"
    (item,) = decision.review
    assert item.kind == "controls"
    assert item.subject.startswith("controls · open · ")
    assert "unpaired test on 30 old and 30 new questions" in item.why


def test_a_first_release_has_nothing_to_be_compared_with() -> None:
    first = decide(comparison(old_version=None, bump="first"), None, SAME)
    assert (first.verdict, first.reasons) == (
        "safe",
        ("the first release, which has nothing to be compared with",),
    )
