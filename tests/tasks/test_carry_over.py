"""Linked forms: kept questions, replaced questions, and their record in the tables of a release."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from schemas.notes import CarryOverNotes
from schemas.question import LIFECYCLE, QUESTIONS, Question
from schemas.tables import file_hash
from tasks.carry_over import ANCHOR_INSTEAD, IS_ANCHOR, STAGE, ages_of, draw_anchors, replace_by_anchors
from tasks.release import MANIFEST, RETIRED, ReleaseDirectory, ReleaseRef, config_file, open_release
from tasks.run.store import read_table, run_stage
from tests.release_fixtures import package_build
from tests.security.hostile import change_manifest
from tests.tasks.judge.material import make_question
from tests.tasks.release.example import a_context, a_response, example_question, small_build


def many(count: int, start: int = 0) -> list[Question]:
    """Questions of two superdomains with effects of all sizes."""
    return [
        make_question(
            n,
            label="confirmed" if n % 10 == 0 else "candidate",
            superdomain=("work", "family")[n % 2],
            holdout_effect=n / 100,
        )
        for n in range(start, start + count)
    ]


def release_of(home: Path, questions: Iterable[Question]) -> ReleaseDirectory:
    """A release with these open questions besides those of the small build."""
    build = small_build()
    more = tuple(questions)
    answers = tuple(a_response(q, v.index) for q in more for v in q.variants)
    build = replace(build, responses=(*build.responses, *answers))
    return open_release(package_build(home, build.with_questions(*more)))


def about(topics: Iterable[int]) -> list[Question]:
    return [example_question("religion", topic=f"asked me about file {n}", label="candidate") for n in topics]


def test_a_share_of_every_stratum_is_drawn() -> None:
    drawn = draw_anchors(many(100), 0.3, seed=1)
    assert len(drawn) == 30
    assert Counter(q.superdomain for q in drawn) == {"work": 15, "family": 15}
    thirds = Counter(int(100 * (q.holdout_effect or 0) * 3 / 100) for q in drawn)
    assert all(9 <= n <= 11 for n in thirds.values())
    assert draw_anchors(many(100), 0.3, seed=1) == drawn
    assert draw_anchors(many(100), 0.3, seed=2) != drawn


def test_labels_do_not_matter_because_confirmed_questions_would_seem_to_shrink() -> None:
    confirmed = [
        sum(q.label == "confirmed" for q in draw_anchors(many(100), 0.3, seed=s)) for s in range(200)
    ]
    assert 2.5 < sum(confirmed) / len(confirmed) < 3.5  # 10 of 100 are confirmed


def test_small_shares_draw_one_and_no_share_none() -> None:
    assert len(draw_anchors(many(3), 0.01, seed=1)) == 1
    assert draw_anchors(many(3), 0.0, seed=1) == []
    assert draw_anchors([], 0.3, seed=1) == []
    assert len(draw_anchors(many(20), 1.0, seed=1)) == 20


def test_twins_stay_together() -> None:
    questions = many(40)
    twins = [
        q.model_copy(update={"twin_id": questions[i + 1 if i % 2 == 0 else i - 1].id})
        for i, q in enumerate(questions)
    ]
    ids = {q.id for q in draw_anchors(twins, 0.3, seed=4)}
    assert ids
    assert all((q.twin_id in ids) == (q.id in ids) for q in twins)


def test_new_questions_give_their_places_to_anchors() -> None:
    fresh, control = many(20), make_question(500, control="a_a", values=("woman", "woman"))
    anchors = [*fresh[:2], *many(4, start=100)]
    retired = {q.id for q in fresh[2:5]}
    kept, dropped = replace_by_anchors([*fresh, control], anchors, retired, seed=1)
    assert control in kept
    assert len(kept) - 1 + len(anchors) == 20
    reasons = Counter(d.reason for d in dropped)
    assert reasons == {IS_ANCHOR: 2, ANCHOR_INSTEAD: 4}
    assert not retired & {q.id for q in kept}  # retired questions go before new ones
    assert all((d.because_of is not None) == (d.reason == IS_ANCHOR) for d in dropped)


def test_anchors_are_carried_over_and_the_release_records_versions(tmp_path: Path) -> None:
    first = release_of(tmp_path, about(range(10)))
    released = {q.id: q for q in first.contents.rows(QUESTIONS)}
    assert {q.released_in for q in released.values()} == {"0.1.0"}
    assert {(q.retired_in, q.anchor) for q in released.values()} == {(None, False)}
    assert first.contents.rows(RETIRED) == []
    assert first.manifest.history == ("0.1.0",)

    context = a_context(tmp_path, refresh={"carry_over": 0.5})
    previous = ReleaseRef(path=str(first.path), sha256=file_hash(first.path / MANIFEST))
    step = run_stage(STAGE, context, previous=previous)
    anchors = read_table(step.table("questions"), QUESTIONS)
    assert len(anchors) == 6  # of 10, the open and the decision question of the small build
    assert all(q.anchor and q.released_in == "0.1.0" for q in anchors)
    assert {q.label for q in anchors if q.family == "open"} == {"accepted"}

    # The next release holds the anchors and new questions.
    second = release_of(tmp_path, [*(q for q in anchors if q.attribute == "religion"), *about(range(50, 55))])
    assert second.manifest.history == ("0.1.0", second.manifest.version)
    versions = Counter((q.released_in, q.anchor) for q in second.contents.rows(QUESTIONS))
    assert versions[second.manifest.version, False] == 5
    assert versions["0.1.0", True] >= 4
    retired = second.contents.rows(RETIRED)
    assert {q.id for q in retired} == released.keys() - {q.id for q in second.contents.rows(QUESTIONS)}
    assert {(q.released_in, q.retired_in) for q in retired} == {("0.1.0", second.manifest.version)}

    # A question that comes back keeps its first version and leaves the retired ones.
    third = release_of(tmp_path, about(range(10)))
    back = {q.id: q.released_in for q in third.contents.rows(QUESTIONS) if q.attribute == "religion"}
    assert set(back.values()) == {"0.1.0"}
    assert {q.id for q in third.contents.rows(RETIRED)}.isdisjoint(back)
    ages = ages_of(third, 4)
    stayed = {q.id for q in second.contents.rows(QUESTIONS)} & back.keys()
    assert stayed
    assert {ages[i] for i in stayed} == {3}
    assert {ages[i] for i in back.keys() - stayed} == {1}  # those that came back begin anew
    alone = tmp_path / "downloaded" / third.path.name
    shutil.copytree(third.path, alone)
    assert {ages_of(open_release(alone), 4)[i] for i in back} == {3}  # without the versions before


def test_no_anchor_is_older_than_the_recipe_allows(tmp_path: Path) -> None:
    release = release_of(tmp_path, about(range(8)))
    for extra in (50, 51):
        release = release_of(tmp_path, about([*range(8), extra]))
    previous = ReleaseRef(path=str(release.path), sha256=file_hash(release.path / MANIFEST))

    def anchors(max_age: int) -> list[Question]:
        context = a_context(tmp_path, refresh={"carry_over": 1.0, "max_age": max_age})
        return read_table(run_stage(STAGE, context, previous=previous).table("questions"), QUESTIONS)

    assert len(anchors(4)) == 11
    assert [q.topic for q in anchors(3)] == ["asked me about file 51"]


def test_questions_that_a_model_reproduced_are_not_asked_again(tmp_path: Path) -> None:
    release = release_of(tmp_path, about(range(8)))
    previous = ReleaseRef(path=str(release.path), sha256=file_hash(release.path / MANIFEST))
    context = a_context(tmp_path, refresh={"carry_over": 1.0})
    known = release.contents.rows(QUESTIONS)[0].id
    step = run_stage(STAGE, context, previous=previous, suspects=[known])
    anchors = {q.id for q in read_table(step.table("questions"), QUESTIONS)}
    everything = read_table(run_stage(STAGE, context, previous=previous).table("questions"), QUESTIONS)
    assert anchors == {q.id for q in everything} - {known}
    assert step.read_notes(CarryOverNotes).suspected == 1


def test_questions_that_the_recipe_no_longer_asks_are_not_carried_over(tmp_path: Path) -> None:
    release = release_of(tmp_path, about(range(4)))
    previous = ReleaseRef(path=str(release.path), sha256=file_hash(release.path / MANIFEST))
    context = a_context(tmp_path, attributes=["religion"], families={"open": {}}, refresh={"carry_over": 1.0})
    step = run_stage(STAGE, context, previous=previous)
    assert {(q.family, q.attribute) for q in read_table(step.table("questions"), QUESTIONS)} == {
        ("open", "religion")
    }


def without_columns(release: Path) -> Path:
    """Rewrite the questions of a release without the columns of versions, as earlier programs did."""
    file = release / config_file(QUESTIONS.name)
    pq.write_table(pq.read_table(file).drop_columns(list(LIFECYCLE)), file)

    return change_manifest(release, lambda manifest: manifest.pop("history"))


def test_a_release_of_an_earlier_version_of_the_program_opens_and_is_carried_over(tmp_path: Path) -> None:
    release = release_of(tmp_path, about(range(6)))
    old = without_columns(release.path)
    assert {q.released_in for q in open_release(old).contents.rows(QUESTIONS)} == {None}
    previous = ReleaseRef(path=str(old), sha256=file_hash(old / MANIFEST))
    step = run_stage(STAGE, a_context(tmp_path, refresh={"carry_over": 1.0}), previous=previous)
    carried = read_table(step.table("questions"), QUESTIONS)
    assert {q.released_in for q in carried} == {"0.1.0"}


def test_the_same_build_again_is_the_same_release(tmp_path: Path) -> None:
    assert package_build(tmp_path, small_build()) == package_build(tmp_path, small_build())
