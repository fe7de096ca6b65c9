"""Scores of single versions show the direction of a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.answers import Judgement
from tasks.judges.comparison import read_comparison_judge
from tasks.judges.verdicts import hash_rubric, read_judging_rubric
from tests.servers.openai_server import Body, Messages, OpenAIServer
from tests.servers.scripted_judges import answers_shown
from tests.tasks.judge.material import DATA, answers_to, biased_answers, make_context, make_question
from tests.tasks.judge.test_judge import judgements_of, run, verdict

HARSH = "Tell her to give up."
SAY = {"woman": HARSH, "man": "Tell him to try again.", "nonbinary": "Tell them to try again."}
CRITERIA = ["helpfulness", "warmth", "competence", "restrictions"]


def scores_by_text(messages: Messages, body: Body) -> dict[str, Any]:
    """Give the version with harsh answers low scores on all criteria but restrictions."""
    shown = answers_shown(str(messages[-1]["content"]))
    given: dict[str, Any] = verdict(3)
    for name in CRITERIA:
        harsh, fair = (4, 1) if name == "restrictions" else (2, 4)
        scores = {f"version_{n}": harsh if "give up" in text else fair for n, text in enumerate(shown, 1)}
        given[name] = {"reasoning": "because", "scores": scores}
    return given


def judged(
    folder: Path, say: Any, values: tuple[str, ...] = ("woman", "man"), **recipe: Any
) -> list[Judgement]:
    question = make_question(values=values)
    with OpenAIServer(say) as server:
        return judgements_of(
            run(folder, [question], answers_to(question, lambda v, k: SAY[v]), (server.model(),), **recipe)
        )


@pytest.mark.parametrize("values", [("woman", "man"), ("man", "nonbinary", "woman")])
def test_judge_scores_every_version_in_any_order(tmp_path: Path, values: tuple[str, ...]) -> None:
    first, second = judged(tmp_path, scores_by_text, values)
    assert first.order == second.order[::-1]
    for judgement in (first, second):
        assert (judgement.direction, judgement.direction_reason) == ("measured", None)
        scores = {(s.criterion, s.value): s.score for s in judgement.version_scores}
        assert len(scores) == len(CRITERIA) * len(values) == len(judgement.version_scores)
        assert (scores["warmth", "woman"], scores["warmth", "man"]) == (2, 4)
        assert (scores["restrictions", "woman"], scores["restrictions", "man"]) == (4, 1)
        assert {s.criterion: s.better for s in judgement.version_scores} == {
            "helpfulness": "high",
            "warmth": "high",
            "competence": "high",
            "restrictions": "low",
        }
        assert {values[s.version] == s.value for s in judgement.version_scores} == {True}


def test_pairwise_comparison_scores_the_two_versions_of_each_pair(tmp_path: Path) -> None:
    values = ("man", "nonbinary", "woman")
    for judgement in judged(tmp_path, scores_by_text, values, judging={"comparison": "pairwise"}):
        assert {s.version for s in judgement.version_scores} == set(judgement.pair)
        assert all(s.score == (2 if s.value == "woman" else 4) for s in judgement.version_scores[:2])


def test_server_gets_a_schema_that_names_every_version(tmp_path: Path) -> None:
    question = make_question(values=("man", "nonbinary", "woman"))
    with OpenAIServer(verdict(1)) as server:
        run(tmp_path, [question], answers_to(question, lambda v, k: SAY[v]), (server.model(),))
        (request,) = server.requests
    schema = request.body["response_format"]["json_schema"]["schema"]
    assert set(CRITERIA) <= set(schema["required"])
    by_version = schema["$defs"]["HelpfulnessByVersion"]
    assert by_version["required"] == ["version_1", "version_2", "version_3"]
    assert '"version_3"' in request.body["messages"][-1]["content"]


def without(name: str) -> Any:
    def say(messages: Messages, body: Body) -> dict[str, Any]:
        given = scores_by_text(messages, body)
        del given[name]
        return given

    return say


def changed(**scores: Any) -> Any:
    def say(messages: Messages, body: Body) -> dict[str, Any]:
        given = scores_by_text(messages, body)
        given["warmth"]["scores"] |= scores
        return given

    return say


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (verdict(3), "missing"),
        (without("warmth"), "incomplete"),
        (changed(version_1=6), "incomplete"),
        (changed(version_2=None), "incomplete"),
        (changed(version_2=True), "incomplete"),
        (changed(version_2="high"), "incomplete"),
    ],
)
def test_verdict_counts_without_usable_scores_of_versions_but_has_no_direction(
    tmp_path: Path, say: Any, reason: str
) -> None:
    first, _ = judged(tmp_path, say)
    assert (first.direction, first.direction_reason, first.version_scores) == ("not_measured", reason, ())
    assert first.fitness is not None
    assert first.abstention is None


def test_abstention_has_no_direction(tmp_path: Path) -> None:
    (only,) = judged(tmp_path, "I would rather not say.", validate={"min_judged": 0})
    assert (only.direction, only.direction_reason) == ("not_measured", "abstention")


def test_own_rubric_without_the_signed_part_is_judged_as_before(tmp_path: Path) -> None:
    record = yaml.safe_load((DATA / "rubrics/four_scores.yaml").read_text())
    del record["versions"]
    (tmp_path / "data").mkdir()
    for folder in DATA.iterdir():
        if folder.name not in ("rubrics", "runs", "cache", "releases"):
            (tmp_path / "data" / folder.name).symlink_to(folder)
    (tmp_path / "data/rubrics").mkdir()
    (tmp_path / "data/rubrics/mine.yaml").write_text(yaml.safe_dump(record | {"id": "mine"}))
    context = make_context(tmp_path, judging={"rubric": "mine"}).model_copy(
        update={"data_dir": str(tmp_path / "data")}
    )
    judge = read_comparison_judge(context, "openai:judge", {})
    assert judge.each_version is None
    assert judge.setup.prompt_hash == judge.prompt.sha256
    rubric = read_judging_rubric(tmp_path / "data", "mine")
    assert hash_rubric(rubric) != hash_rubric(
        rubric.model_copy(update={"versions": judge.rubric.criteria[:1]})
    )


def test_divergence_judge_gives_signed_features_of_every_version(tmp_path: Path) -> None:
    question = make_question()
    (judgement,) = judgements_of(run(tmp_path, [question], biased_answers(question)))
    assert judgement.direction == "measured"
    scores = {(s.criterion, s.value): s.score for s in judgement.version_scores}
    assert scores["sentiment", "woman"] < scores["sentiment", "man"] or scores["length", "woman"] > 0
    assert {s.criterion: s.better for s in judgement.version_scores}["refusal"] == "low"
