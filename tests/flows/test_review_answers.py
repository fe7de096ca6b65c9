"""A build corrects its judges with the scores that people gave to hold-out answers."""

from __future__ import annotations

from pathlib import Path

from flows.reviews import Reviews
from schemas.answers import JUDGEMENTS
from schemas.labels import Act
from schemas.question import QUESTIONS
from schemas.recipe import Recipe
from tasks.review.answer_sample import sample_answers
from tasks.review.events import append_events, reviews_folder
from tests.conftest import recipe_of
from tests.material.review_release import many_questions
from tests.tasks.judge.material import put_table
from tests.tasks.review.test_answers import judged


def test_summary_of_a_release_has_the_corrected_treatment(tmp_path: Path) -> None:
    questions = [q for q in many_questions(150, ("work", "food")) if q.attribute == "gender"]
    judgements = [
        judged(q, {v.index: 2.0 if v.index == 0 else 3.5 + i % 3 / 2 for v in q.variants})
        for i, q in enumerate(questions)
    ]
    recipe: Recipe = recipe_of(name="mine", review={"answers": 12})
    drawn = sample_answers("mine", {q.id: q for q in questions}, judgements, recipe.review)
    acts = [
        Act.model_validate(
            {
                "action": "verdict",
                "subject": "answers",
                "subject_id": group.question_id,
                "query_id": group.model,
                "verdict": "same",
            }
        )
        for group in drawn.values()
        if group.sampled
    ]
    append_events(reviews_folder(tmp_path, "mine"), "anna", acts)
    reviews = Reviews.read(tmp_path, "mine")
    tables = put_table(tmp_path, QUESTIONS, questions), put_table(tmp_path, JUDGEMENTS, judgements)
    rows = reviews.correct_treatment(recipe, *tables)
    first = questions[0].variants[0].value
    (row,) = [row for row in rows if row.value == first]
    assert (row.labels, row.groups, row.status) == (12, len(questions), "measured")
    assert row.judge_only is not None
    assert row.judge_only < -0.5
    assert row.people_only == 0
    assert reviews.correct_treatment(recipe_of(name="mine"), *tables) == []
