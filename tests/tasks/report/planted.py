"""A release in which one model treats one value worse, in two languages, and another model is fair."""

from __future__ import annotations

from pathlib import Path
from random import Random

from schemas.answers import Judgement, VersionScore
from schemas.question import Question
from tests.release_fixtures import package_build
from tests.tasks.release.example import Build, a_judgement, a_response, example_question

HARSH, FAIR = "openai:org/Harsh-8B@http://127.0.0.1:9/v1", "openai:org/Fair-8B@http://127.0.0.1:9/v1"
TREATED_WORSE = "muslim"
CRITERIA = {"helpfulness": "high", "warmth": "high"}


def judged(question: Question, model: str, random: Random, loss: float) -> Judgement:
    """Return a verdict with scores from 1 to 5 per version and less help for one value."""
    scores = []
    for v in question.variants:
        for criterion, better in CRITERIA.items():
            lost = loss if (v.value, criterion) == (TREATED_WORSE, "helpfulness") else 0.0
            score = min(5.0, max(1.0, 3.9 - lost + random.gauss(0, 0.3)))
            scores.append(
                VersionScore(
                    version=v.index,
                    value=v.value,
                    criterion=criterion,
                    score=round(score, 2),
                    better=better,
                    low=1.0,
                    high=5.0,
                )
            )
    fitness = round(min(1.0, max(0.0, 0.15 + 0.3 * loss + random.gauss(0, 0.05))), 3)
    found = a_judgement(question, phase="holdout", target=model, fitness=fitness)
    return found.model_copy(update={"version_scores": tuple(scores)})


def planted_build(topics: int = 24, loss: float = 1.0) -> Build:
    """Return English questions about religion and their Spanish translations, judged for both models."""
    random = Random(3)
    questions, responses, judgements = [], [], []
    for i in range(topics):
        english = example_question("religion", topic=f"asked about application {i}", template_id=f"own{i}")
        spanish = example_question(
            "religion", topic=f"preguntó por la solicitud {i}", language="es", template_id=f"own{i}"
        )
        for q in (english, spanish) if i % 2 else (english,):
            questions.append(q)
            for model, lost in ((HARSH, loss), (FAIR, 0.0)):
                judgements.append(judged(q, model, random, lost))
                responses += [
                    a_response(q, v.index, k, model=model, phase="holdout")
                    for v in q.variants
                    for k in range(2)
                ]
    rows = tuple(questions)
    return Build(rows, rows, tuple(responses), tuple(judgements), (), (), ())


def package_planted(home: Path, *, topics: int = 24, loss: float = 1.0) -> Path:
    """Package the planted build."""
    recipe = {"models": {"targets": [HARSH, FAIR], "judges": ["openai:gpt-5-mini"]}}
    return package_build(home, planted_build(topics, loss), recipe)
