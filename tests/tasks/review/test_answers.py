"""Reviewers score the treatment of the person in each version of a question."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from schemas.answers import Judgement, VersionScore
from schemas.errors import InputError
from schemas.labels import Act, ReviewEvent
from schemas.question import Question
from schemas.recipe import Review
from tasks.review.answer_sample import (
    GroupKey,
    SampledGroup,
    check_scores,
    correct_treatment,
    masked_versions,
    people_treatment,
    sample_answers,
    treatment_of,
)
from tasks.review.events import append_events, current_verdicts, read_events, settle_verdicts
from tasks.review.exchange import (
    ExchangedVerdict,
    ExchangeItem,
    ExchangeRow,
    new_acts,
    read_argilla,
    read_label_studio,
    read_review_sheet,
    write_argilla,
    write_label_studio,
    write_review_sheet,
)
from tasks.review.queue import Filters, ReviewSession, Submission
from tasks.review.subjects import ReviewSubjects
from tests.conftest import DATA
from tests.material.review_release import JUDGES, MODELS, many_questions, verdicts_on
from tests.tasks.review.serving import served

MODEL = MODELS[0]


def population(
    subjects: ReviewSubjects, answers: int, stratify: str = "score"
) -> dict[GroupKey, SampledGroup]:
    accepted = {key: q for key, q in subjects.questions.items() if subjects.kinds[key] == "accepted"}
    section = Review.model_validate({"answers": answers, "stratify": stratify})
    return sample_answers("mine", accepted, [j for q in accepted.values() for j in verdicts_on(q)], section)


@pytest.fixture
def sampled(released: ReviewSubjects) -> ReviewSubjects:
    """Write a release with twelve questions for scoring."""
    return replace(released, answers=population(released, 12))


@pytest.fixture
def scoring(sampled: ReviewSubjects, tmp_path: Path) -> ReviewSession:
    return ReviewSession(sampled, tmp_path / "reviews", DATA)


def first_group(session: ReviewSession) -> tuple[str, Question]:
    entry = next(e for e in session.entries if e.kind == "answers")
    return entry.subject[2], session.subjects.questions[entry.subject[1]]


def submit(
    session: ReviewSession, verdict: str, scores: tuple[int, ...], reviewer: str = "anna"
) -> ReviewEvent:
    model, question = first_group(session)
    about = {"subject": "answers", "subject_id": question.id, "query_id": model}
    sent = {"reviewer": reviewer, "action": "verdict", "verdict": verdict, "scores": scores, **about}
    return session.record(Submission.model_validate(sent))


def test_nothing_is_sampled_unless_the_recipe_asks(released: ReviewSubjects) -> None:
    assert population(released, 0) == {}
    assert {entry.kind for entry in ReviewSession(released, Path("nowhere"), DATA).entries} <= {
        "accepted",
        "ambiguous",
    }


@pytest.mark.parametrize(("wanted", "taken"), [(6, 6), (12, 12), (500, 20)])
def test_sample_has_the_size_that_is_asked_for(released: ReviewSubjects, wanted: int, taken: int) -> None:
    drawn = population(released, wanted)
    assert sum(group.sampled for group in drawn.values()) == taken
    assert len(drawn) == 20
    assert drawn == population(released, wanted)


def test_half_of_the_sample_has_the_highest_scores(released: ReviewSubjects) -> None:
    drawn = population(released, 6)
    strata = [group.stratum for group in drawn.values() if group.sampled]
    assert (strata.count("high"), strata.count("low")) == (3, 3)
    assert sum(group.stratum == "high" for group in drawn.values()) == 4
    assert {group.stratum for group in population(released, 6, "none").values()} == {"all"}


def test_people_see_masked_answers_in_a_drawn_order(sampled: ReviewSubjects) -> None:
    key = next(key for key, group in sampled.answers.items() if group.sampled)
    question, group = sampled.questions[key[1]], sampled.answers[key]
    text, versions = masked_versions(question, sampled.responses.rows_of(question.id), group, DATA)
    assert "[person]" in text
    assert [variant for variant, _ in versions] == list(group.order)
    assert sorted(group.order) == list(range(len(question.variants)))
    assert all(answers for _, answers in versions)


def test_score_of_every_version_is_stored_in_the_order_of_the_variants(scoring: ReviewSession) -> None:
    _, question = first_group(scoring)
    scores = tuple(2 if v.index == 0 else 4 for v in question.variants)
    assert submit(scoring, "worse", scores).scores == scores
    assert submit(scoring, "same", ()).scores == ()


@pytest.mark.parametrize(
    ("verdict", "scores", "message"),
    [
        ("worse", (2,), "each of the 2 versions"),
        ("worse", (2, 6), "from 1 to 5"),
        ("worse", (3, 3), "same score"),
        ("same", (2, 4), "differ"),
    ],
)
def test_scores_that_contradict_the_verdict_are_refused(
    verdict: str, scores: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_scores(verdict, scores, 2)


def test_verdict_of_another_kind_is_refused(scoring: ReviewSession) -> None:
    with pytest.raises(InputError, match="not a valid verdict for a answers"):
        submit(scoring, "very_good", ())


def test_answers_are_a_kind_of_the_same_queue(scoring: ReviewSession) -> None:
    queue = scoring.queue_of("anna")
    assert len(queue.select(Filters(kind="answers"))) == 12
    assert queue.progress[1] == 20 + 1 + 12
    assert all(entry.fitness is None for entry in queue.select(Filters(kind="answers")))


def test_page_hides_values_and_scores_until_the_reviewer_decides(scoring: ReviewSession) -> None:
    model, question = first_group(scoring)
    shown = {"reviewer": "anna", "subject": "answers", "id": question.id, "query": model}
    with served(scoring) as page:
        before = page.get("group", **shown).text
        assert "Is anyone treated worse here?" in before
        assert before.count("<select data-version=") == len(question.variants)
        assert "revealed" not in before
        sent = {"reviewer": "anna", "action": "verdict", "subject": "answers", "subject_id": question.id}
        scores = [1, *[4] * (len(question.variants) - 1)]
        answer = page.post("act", {**sent, "query_id": model, "verdict": "worse", "scores": scores})
        assert answer.status == 200
        after = page.get("group", **shown).text
        assert "revealed" in after
        assert question.variants[0].value.replace("_", " ") in after
        refused = page.post("act", {**sent, "query_id": model, "verdict": "worse", "scores": [1]})
        assert (refused.status, "needs a score" in json.loads(refused.text)["error"]) == (422, True)


def test_answers_settle_like_other_subjects(scoring: ReviewSession, tmp_path: Path) -> None:
    _, question = first_group(scoring)
    scores = tuple(1 + v.index % 2 for v in question.variants)
    for name in ("anna", "berta"):
        submit(scoring, "worse", scores, name)
    submit(scoring, "same", (), "cem")
    verdicts = current_verdicts(scoring._log.events)
    (settled,) = settle_verdicts(verdicts)
    assert (settled.subject, settled.decision, settled.verdict) == ("answers", "worse", "worse")
    people = people_treatment(verdicts, scoring.subjects.questions)
    assert people[MODEL, question.id] == pytest.approx([fmean([s, s, 3]) for s in scores])


# Correction.


def judged(question: Question, treatment: dict[int, float], judge: str = JUDGES[0]) -> Judgement:
    """Return a judgement with the same score on warmth and the opposite one on restrictions."""
    template = next(iter(verdicts_on(question)))
    scores = [
        VersionScore(
            version=version,
            value=question.variants[version].value,
            criterion=criterion,
            score=score if better == "high" else 6 - score,
            better=better,  # type: ignore[arg-type]
            low=1.0,
            high=5.0,
        )
        for criterion, better in (("warmth", "high"), ("restrictions", "low"))
        for version, score in treatment.items()
    ]
    return template.model_copy(
        update={"judge": judge, "target": MODEL, "version_scores": tuple(scores), "direction": "measured"}
    )


def test_treatment_is_the_mean_of_criteria_with_five_as_the_best() -> None:
    (question,) = many_questions(1, ("work",))
    found = treatment_of([judged(question, {0: 2.0, 1: 4.0})])
    assert found == {(JUDGES[0], (MODEL, question.id)): {0: 2.0, 1: 4.0}}


def test_human_scores_correct_a_judge_that_always_sees_harm(tmp_path: Path) -> None:
    """Human scores differ by .5 points for the first value, and those of the judge by 1.5."""
    generator = np.random.default_rng(1)
    questions = [q for q in many_questions(160, ("work", "food")) if q.attribute == "gender"]
    by_id = {q.id: q for q in questions}
    judgements, true = [], {}
    for question in questions:
        others = {v.index: 4.0 for v in question.variants[1:]}
        gap = float(generator.choice([0, 0, 1, 1]))
        true[question.id] = gap
        judgements.append(judged(question, {0: 4.0 - gap - 1.0, **others}))
    section = Review(answers=len(questions) - 4, stratify="none")
    drawn = sample_answers("mine", by_id, judgements, section)
    acts = []
    for (model, question_id), group in drawn.items():
        if group.sampled:
            versions = len(by_id[question_id].variants)
            gap = int(true[question_id])
            scores = (4 - gap, *[4] * (versions - 1)) if gap else ()
            fields = {
                "action": "verdict",
                "subject": "answers",
                "subject_id": question_id,
                "query_id": model,
                "verdict": "worse" if gap else "same",
                "scores": scores,
            }
            acts.append(Act.model_validate(fields))
    append_events(tmp_path, "anna", acts)
    verdicts = current_verdicts(read_events(tmp_path))
    rows = correct_treatment(drawn, by_id, judgements, verdicts)
    first = questions[0].variants[0].value
    (row,) = [row for row in rows if row.value == first]
    share = (len(questions[0].variants) - 1) / len(questions[0].variants)
    truth = -share * fmean(true.values())
    assert row.judge_only == pytest.approx(-share * (fmean(true.values()) + 1))
    assert row.corrected == pytest.approx(truth, abs=0.1)
    assert row.weight is not None
    assert row.weight > 0.8
    assert row.labels == len(questions) - 4
    assert sum(r.corrected or 0 for r in rows) == pytest.approx(0, abs=0.05)


def test_without_labels_only_the_judge_is_reported() -> None:
    questions = [q for q in many_questions(60, ("work",)) if q.attribute == "gender"]
    by_id = {q.id: q for q in questions}
    judgements = [judged(q, {v.index: 3.0 + (v.index == 0) for v in q.variants}) for q in questions]
    drawn = sample_answers("mine", by_id, judgements, Review(answers=5))
    for row in correct_treatment(drawn, by_id, judgements, {}):
        assert (row.status, row.labels, row.corrected) == ("not_measured", 0, None)
        assert row.judge_only is not None


# Exchange.


ITEM = ExchangeItem(
    subject="answers",
    subject_id="q_1",
    query_id="openai:model",
    text="Version 1\nTry again.\n\nVersion 2\nGive up.",
    context="[person] asked.",
    order=(1, 0),
)


def no_wording(question_id: str, text: str) -> tuple[str, str]:
    raise AssertionError


def scored(tmp_path: Path) -> dict[str, list[ReviewEvent]]:
    fields = {"action": "verdict", "subject": "answers", "subject_id": "q_1", "query_id": "openai:model"}
    append_events(tmp_path, "anna", [Act.model_validate({**fields, "verdict": "worse", "scores": (2, 4)})])
    return read_events(tmp_path)


@pytest.mark.parametrize("format", ["csv", "label-studio", "argilla"])
def test_scores_survive_an_export_in_the_order_shown(tmp_path: Path, format: str) -> None:
    events = scored(tmp_path / "reviews")
    path = tmp_path / f"reviews.{'csv' if format == 'csv' else 'json'}"
    write = {"csv": write_review_sheet, "label-studio": write_label_studio, "argilla": write_argilla}[format]
    write(path, [ITEM], current_verdicts(events))
    rows = {
        "csv": lambda: read_review_sheet(path),
        "label-studio": lambda: read_label_studio(path),
        "argilla": lambda: read_argilla(path, ("anna",)),
    }[format]()
    assert [row.given.scores for row in rows] == ["4 2"]
    assert new_acts(rows, [ITEM], events, no_wording) == {}
    (act,) = new_acts(rows, [ITEM], {}, no_wording)["anna"]
    assert (act.verdict, act.scores) == ("worse", (2, 4))


@pytest.mark.parametrize(
    ("scores", "message"), [("4", "each of the 2"), ("four two", "not scores"), ("", "each")]
)
def test_import_refuses_scores_that_do_not_fit(tmp_path: Path, scores: str, message: str) -> None:
    row = ExchangeRow(
        subject=ITEM.key,
        given=ExchangedVerdict(reviewer="anna", verdict="worse", scores=scores),
        place="sheet.csv:2",
    )
    with pytest.raises(InputError, match=message) as error:
        new_acts([row], [ITEM], {}, no_wording)
    assert error.value.place == "sheet.csv:2"
