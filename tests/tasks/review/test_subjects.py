"""Subjects of a review, read from runs and releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.release import Manifest, ReleaseComparison
from tasks.review.subjects import ReviewSubjects, open_subjects
from tests.material.review_release import many_questions
from tests.tasks.review.places import EVIDENCE, FEW, add_step, small_release, small_run


def test_a_release_contains_accepted_and_ambiguous_questions(
    released: ReviewSubjects,
) -> None:
    kinds = list(released.kinds.values())
    assert (kinds.count("accepted"), kinds.count("ambiguous")) == (20, 1)
    assert (released.benchmark, released.version) == ("everyday-advice", "1.0.0")


def test_answers_and_verdicts_are_found_by_question(released: ReviewSubjects) -> None:
    for question_id, kind in released.kinds.items():
        question = released.questions[question_id]
        answers, verdicts = released.responses.rows_of(question_id), released.judgements.rows_of(question_id)
        assert {r.question_id for r in (*answers, *verdicts)} <= {question_id}
        asked = kind == "accepted"
        assert len(answers) == asked * 2 * 2 * len(question.variants)
        assert len(verdicts) == asked * 2
    assert released.responses.rows_of("q_unknown") == []


def test_disagreement_is_the_range_of_the_judges_means(released: ReviewSubjects) -> None:
    for question_id, apart in released.disagreement.items():
        one, other = (j.fitness or 0.0 for j in released.judgements.rows_of(question_id))
        assert apart == pytest.approx(abs(one - other))


def test_an_unfinished_run_contains_questions_and_passages(
    unfinished: ReviewSubjects,
) -> None:
    assert unfinished.version is None
    assert list(unfinished.kinds.values()) == ["accepted"] * 3
    promoted, removed = unfinished.passages["query/1?", "p1"], unfinished.passages["query/1?", "p2"]
    assert promoted.query == "Can I borrow a laptop?"
    assert EVIDENCE in promoted.passage.text
    assert [p.id for p in promoted.positives] == ["p0"]
    assert (promoted.change.after, removed.change.after) == ("positive", "removed")


def test_a_waiting_run_contains_relabelled_and_templated_questions(tmp_path: Path) -> None:
    templated, searched, mended = many_questions(3, FEW)
    run = small_run(tmp_path, [templated])
    journal = (run / "journal.jsonl").read_text().splitlines()
    (run / "journal.jsonl").write_text("\n".join(journal[:-1]) + "\n")
    add_step(run, "mend", [templated])
    with pytest.raises(InputError, match="nothing to review yet"):
        open_subjects(run, tmp_path)
    add_step(run, "relabel", [searched])
    assert list(open_subjects(run, tmp_path).questions) == [templated.id, searched.id]
    add_step(run, "mend", [mended])
    assert list(open_subjects(run, tmp_path).questions) == [templated.id, mended.id]
    add_step(run, "deduplicate", [mended])
    assert list(open_subjects(run, tmp_path).questions) == [mended.id]


def test_questions_missing_in_the_previous_release_are_new(tmp_path: Path) -> None:
    place = small_release(tmp_path, 4)
    ids = list(open_subjects(place, tmp_path).questions)
    manifest = Manifest.model_validate_json((place / "manifest.json").read_bytes())
    compared = ReleaseComparison.model_validate(
        {**manifest.comparison.model_dump(), "old_version": "0.9.0", "added": (ids[0],)}
    )
    later = manifest.model_copy(update={"comparison": compared})
    (place / "manifest.json").write_text(later.model_dump_json())
    assert open_subjects(place, tmp_path).new == {ids[0]}


def test_questions_of_a_run_are_compared_with_the_last_release(tmp_path: Path) -> None:
    released = small_release(tmp_path, 2)
    known = [q for q in open_subjects(released, tmp_path).questions.values() if q.label == "accepted"]
    made = many_questions(4, FEW)
    fresh = [q for q in made if q.id not in {k.id for k in known}]
    run = small_run(tmp_path, [*known, *fresh])
    earlier = tmp_path / "releases" / "unfinished"
    released.parent.rename(earlier)
    assert open_subjects(run, tmp_path / "releases").new == {q.id for q in fresh}


def test_any_other_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a run nor a release"):
        open_subjects(tmp_path, tmp_path)


def test_a_run_without_questions_is_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    (run / "journal.jsonl").write_text('{"kind":"started","name":"unfinished"}\n')
    with pytest.raises(InputError, match="nothing to review yet"):
        open_subjects(run, tmp_path)
