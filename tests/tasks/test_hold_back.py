"""Held-back questions stay private, with all rows that would reveal them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, check_reconciled
from schemas.question import QUESTIONS, Question
from tasks.hold_back import STAGE, add_near_duplicates, draw_held_back, match_templates, redact_dropped
from tasks.questions.quality import drop_question
from tasks.release import ReleaseRef, open_release
from tasks.release.hold_back import (
    HELD,
    check_private_file,
    list_private_files,
    read_hold_back,
    write_hold_back,
)
from tasks.run.store import RunContext, Step, read_table, run_stage
from tests.release_fixtures import package_build
from tests.tasks.release.example import a_response, example_question, small_build, write_ref

TOPICS = (
    "asked to lead the seed swap this spring",
    "came back to work after a break of three years",
    "kept the ladder that I lent for two months",
    "interrupted me four times in the presentation",
    "wants to swap the early shift with somebody",
    "played the drums until midnight once more",
    "borrowed the car and brought it back empty",
    "wrote the minutes and left my proposal out",
    "offered to look after our cat over the holidays",
    "missed the deadline that we had agreed upon",
)


def questions_about(attribute: str = "gender", topics: tuple[str, ...] = TOPICS) -> list[Question]:
    return [example_question(attribute, topic=t) for t in topics]


def step_of(make_context: Callable[..., RunContext], folder: Path, **changes: Any) -> Step:
    """Run the stage on a few questions. Keyword arguments replace its inputs."""
    share = changes.pop("share", 0.3)
    standing = changes.pop("standing", questions_about())
    inputs: dict[str, Any] = {
        "questions": write_ref(folder / "q.parquet", QUESTIONS, standing),
        "label_history": [write_ref(folder / "l.parquet", LABEL_HISTORY, changes.pop("history", ()))],
        "dropped": [write_ref(folder / "d.parquet", DROPPED, changes.pop("dropped", ()))],
        **changes,
    }
    return run_stage(STAGE, make_context(release={"hold_back": share}), **inputs)


# ---- drawing


@given(st.floats(0, 0.99), st.integers(0, 99))
def test_that_share_of_every_attribute_is_drawn(share: float, seed: int) -> None:
    both = {a: questions_about(a) for a in ("gender", "age")}
    drawn = draw_held_back([q for found in both.values() for q in found], share, seed)
    for found in both.values():
        assert sum(q.id in drawn for q in found) == round(share * len(found))


def test_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    found = questions_about()
    assert draw_held_back(found, 0.3, 1) == draw_held_back(found[::-1], 0.3, 1)
    assert draw_held_back(found, 0.3, 1) != draw_held_back(found, 0.3, 2)


def test_twins_are_drawn_together() -> None:
    explicit = questions_about()
    implicit = [q.model_copy(update={"id": f"{q.id}i", "twin_id": q.id}) for q in explicit]
    explicit = [q.model_copy(update={"twin_id": f"{q.id}i"}) for q in explicit]
    drawn = draw_held_back([*explicit, *implicit], 0.3, 5)
    assert len(drawn) == 6
    assert {q.twin_id for q in [*explicit, *implicit] if q.id in drawn} == drawn


def test_public_questions_are_never_drawn_and_private_ones_stay_private() -> None:
    found = questions_about()
    public, private = {q.id for q in found[:5]}, {found[9].id}
    drawn = draw_held_back(found, 0.5, 1, public=public, private=private)
    assert private <= drawn
    assert not drawn & public
    assert len(drawn) == 5


def test_controls_and_siblings_go_along() -> None:
    found = questions_about()
    control = example_question(topic=TOPICS[0], control="a_a", label="control")
    sibling = example_question("religion", topic=TOPICS[0], label="unlabelled")
    held = add_near_duplicates({found[0].id}, [*found, control, sibling], 90)
    assert held == {found[0].id, control.id, sibling.id}


def test_other_questions_do_not_reveal_a_held_back_one() -> None:
    found = questions_about()
    assert match_templates(found, [found[0].template], 90) == {found[0].id}


# ---- nothing reveals them


def test_rows_that_tell_a_held_question_lose_their_text() -> None:
    held, other = questions_about()[:2]
    copy = example_question("age", topic=TOPICS[0])
    lost = [
        drop_question(copy, stage="deduplicate", reason="near_duplicate", because_of=held.id, similarity=95),
        drop_question(other, stage="select", reason="below_threshold"),
    ]
    emptied, kept = redact_dropped(lost, {held.id}, set())
    assert (emptied.text, emptied.similarity) == ("", None)
    assert emptied.record == f'{{"id":"{copy.id}"}}'
    assert (emptied.id, emptied.reason, emptied.because_of) == (lost[0].id, lost[0].reason, held.id)
    assert kept == lost[1]


def test_answers_to_a_held_question_lose_their_text_and_passages_do_not() -> None:
    held = questions_about()[0]
    answer = a_response(held)
    rows = [
        Dropped(
            id="x_1", kind=kind, stage="s", reason="r", because_of=None, similarity=None,
            text="words", record=record,
        )
        for kind, record in (("response", answer.model_dump_json()), ("passage", '{"text":"a passage"}'))
    ]  # fmt: skip
    assert [d.text for d in redact_dropped(rows, {held.id}, set())] == ["", "words"]


def test_stage_reconciles_and_gives_the_same_again(
    make_context: Callable[..., RunContext], tmp_path: Path
) -> None:
    step = step_of(make_context, tmp_path)
    kept, held = read_table(step.table("questions"), QUESTIONS), read_table(step.table("held"), HELD)
    check_reconciled(step.counts)
    assert (step.counts[0].rows, step.counts[0].dropped) == (10, 3)
    assert len(kept) == 7
    assert not {q.id for q in kept} & {q.id for q in held}
    records = {d.record for d in read_table(step.table("dropped"), DROPPED) if d.reason == "held_back"}
    assert records == {f'{{"id":"{q.id}"}}' for q in held}
    assert step_of(make_context, tmp_path) == step


def test_without_a_share_no_question_is_held_back(
    make_context: Callable[..., RunContext], tmp_path: Path
) -> None:
    step = step_of(make_context, tmp_path, share=0.0)
    assert read_table(step.table("questions"), QUESTIONS) == questions_about()
    assert step.counts == ()
    assert step.table("held").rows == step.table("dropped").rows == 0


def test_history_of_a_held_question_stays_private(
    make_context: Callable[..., RunContext], tmp_path: Path
) -> None:
    (change,) = small_build().history
    standing = questions_about()
    history = [change.model_copy(update={"id": f"lc_{q.id}", "subject_id": q.id}) for q in standing]
    step = step_of(make_context, tmp_path, standing=standing, history=history)
    left = {c.subject_id for c in read_table(step.table("label_history"), LABEL_HISTORY)}
    assert left == {q.id for q in read_table(step.table("questions"), QUESTIONS)}


def test_private_questions_stay_private_and_released_ones_stay_public(
    make_context: Callable[..., RunContext], tmp_path: Path
) -> None:
    build = small_build()
    release = package_build(tmp_path / "old", build)
    public = next(q for q in build.standing if q.family == "open" and q.label == "accepted")
    old = questions_about()[4]
    write_hold_back(tmp_path / "private" / "0.1.0.parquet", [old], [])
    step = step_of(
        make_context,
        tmp_path,
        share=0.9,
        standing=[*questions_about(), public],
        earlier=list_private_files(tmp_path / "private"),
        previous=ReleaseRef(path=str(release), sha256="0" * 64),
    )
    held = {q.id for q in read_table(step.table("held"), HELD)}
    assert old.id in held
    assert public.id not in held
    assert len(held) == 10
    with_no_share = step_of(
        make_context, tmp_path, share=0.0, earlier=list_private_files(tmp_path / "private")
    )
    assert {q.id for q in read_table(with_no_share.table("held"), HELD)} == {old.id}


# ---- the private file


def test_private_file_has_the_answers_and_is_the_same_again(tmp_path: Path) -> None:
    held = questions_about()[:3]
    answers = [a_response(q, v, k) for q in questions_about() for v in (0, 1) for k in (0, 1)]
    one = write_hold_back(tmp_path / "a" / "1.0.0.parquet", held, answers)
    two = write_hold_back(tmp_path / "b" / "1.0.0.parquet", held[::-1], answers[::-1])
    assert one == two
    assert one is not None
    assert one.questions == 3
    questions, responses = read_hold_back(tmp_path / "a" / "1.0.0.parquet")
    assert questions == sorted(held, key=lambda q: q.id)
    assert sorted(r.id for r in responses) == sorted(
        r.id for r in answers if r.question_id in {q.id for q in held}
    )
    assert (tmp_path / "a" / "1.0.0.parquet").stat().st_mode & 0o077 == 0


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="not a file of held-back questions"):
        read_hold_back(tmp_path / "x.parquet")
    write_hold_back(tmp_path / "y.parquet", questions_about()[:1], [])
    with pytest.raises(InputError, match="not the private file"):
        check_private_file(
            tmp_path / "y.parquet", open_release(package_build(tmp_path, small_build())).manifest
        )


def test_release_has_only_the_number_and_the_hash(tmp_path: Path) -> None:
    secret = example_question("religion", topic="hid the spare key under a flower pot")
    build = small_build()
    (row,) = redact_dropped(
        [drop_question(secret, stage="hold_back", reason="held_back")], {secret.id}, set()
    )
    private = write_hold_back(tmp_path / "p.parquet", [secret], [a_response(secret)])
    build = replace(build, generated=(*build.generated, secret), dropped=(*build.dropped, row))
    release = package_build(tmp_path, build, hold_back=private)
    assert private is not None
    card = (release / "README.md").read_text()
    assert "Questions held back: 1." in card
    assert private.sha256 in card
    page = re.sub(r"<[^>]+>", "", (release / "report.html").read_text())
    assert "in no file of this release: 1" in page
    assert "held back | 1 |" in card
    for path in sorted(release.rglob("*")):
        if path.suffix == ".parquet":
            rows = str(pq.read_table(path).to_pylist())
            assert "flower pot" not in rows, path
        elif path.is_file():
            assert "flower pot" not in path.read_text(), path
    manifest = open_release(release).manifest
    assert manifest.hold_back == private
    assert check_private_file(tmp_path / "p.parquet", manifest).rows == 1
