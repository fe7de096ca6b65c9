"""A build waits for reviewers and applies their decisions."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rapidfuzz.fuzz import ratio

from schemas.answers import JUDGEMENTS, RESPONSES
from schemas.labels import DROPPED, LABEL_HISTORY, Act, Waiting
from schemas.question import QUESTIONS
from tasks.release import ReleaseDirectory, open_release
from tasks.review.events import append_events, reviews_folder
from tests.flows.test_build import built, count_questions, run, scripted, start, write_recipe
from tests.servers.openai_server import OpenAIServer

NAMES = ("Ada Quillfeather", "Ben Thornapple")
TEXT = "{} What would you advise me to do at work this week?"


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(scripted) as running:
        yield running


@dataclass(frozen=True)
class Reviewed:
    """A build that was stopped, reviewed and finished."""

    home: Path
    recipe: Path
    release: ReleaseDirectory
    questions: tuple[str, ...]
    """Return the questions that the build waited for."""
    dropped: str
    edited: str
    contested: str


def recipe_at(home: Path, server: OpenAIServer, **review: Any) -> Path:
    families = {
        "open": {"questions": 20, "samples": 2, "max_tokens": 20},
        "decision": {"questions": 2, "samples": 1},
    }
    changes: dict[str, Any] = {
        "families": families,
        "superdomains": ["work", "neighbourhood"],
        "evolve": {"rounds": 1, "questions_per_round": 8, "save_threshold": 0.0},
    }
    return write_recipe(home / "recipe.yaml", server, review=review, **changes)


def waiting_at(home: Path) -> Waiting:
    place = home / "runs" / "tested" / "waiting.json"
    return Waiting.model_validate_json(place.read_bytes())


def verdict(question_id: str, word: Any) -> Act:
    return Act(action="verdict", subject="question", subject_id=question_id, verdict=word)


def templates_at(home: Path) -> dict[str, str]:
    """Return the templates of the run's questions by id."""
    return {
        row["id"]: row["template"]
        for path in sorted((home / "runs" / "tested").glob("mend-*/questions.parquet"))
        for row in pq.read_table(path, columns=["id", "template"]).to_pylist()
    }


def least_alike_first(home: Path, questions: Sequence[str]) -> list[str]:
    """Sort questions so that the first ones have no near-duplicate that replaces them."""
    templates = templates_at(home)

    def likeness(question_id: str) -> float:
        return max(ratio(templates[question_id], text) for q, text in templates.items() if q != question_id)

    return sorted(questions, key=lambda q: (likeness(q), q))


def edit(home: Path, question_id: str) -> Act:
    """Return the question with another ending."""
    template = TEXT.format(templates_at(home)[question_id].split("?")[0].rsplit(".", 1)[0] + ".")
    return Act(action="edit", subject="question", subject_id=question_id, template=template)


def say(home: Path, name: str, acts: Sequence[Act]) -> None:
    append_events(reviews_folder(home, "tested"), name, acts)


@pytest.fixture(scope="module")
def stopped(
    server: OpenAIServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """Run a build that lacks reviews and return home, recipe and result."""
    home = tmp_path_factory.mktemp("stopped")
    recipe = recipe_at(home, server, required=True, share=0.6)
    return home, recipe, run(home, "build", recipe, "--json")


@pytest.fixture(scope="module")
def reviewed(
    stopped: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> Reviewed:
    """Review and finish the stopped build."""
    home, recipe, _ = stopped
    questions = waiting_at(home).questions
    dropped, edited, contested, *others = least_alike_first(home, questions)
    say(home, NAMES[0], [verdict(dropped, "offensive"), edit(home, edited), verdict(contested, "good")])
    say(home, NAMES[1], [verdict(contested, "repetition"), *(verdict(q, "good") for q in others)])
    release = open_release(Path(built(home, recipe)["release"]))
    return Reviewed(home, recipe, release, questions, dropped, edited, contested)


def test_a_build_that_lacks_reviews_stops_and_names_the_next_step(
    stopped: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    home, _, done = stopped
    assert done.returncode == 7, done.stderr
    assert done.stdout == ""
    waiting = waiting_at(home)
    assert f"0 of {waiting.needed} reviewed" in done.stderr
    assert "counterfoil review" in done.stderr
    assert "run the same command again" in done.stderr
    assert waiting.flow_run is None
    assert not (home / "releases").exists()


def test_plan_and_show_report_that_the_build_waits_for_reviewers(
    stopped: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    home, recipe, _ = stopped
    planned = run(home, "plan", recipe, "--json")
    assert json.loads(planned.stdout)["reviews"] > 0, planned.stderr
    shown = run(home, "show", home / "runs" / "tested", "--json")
    assert "waiting for reviews of" in json.loads(shown.stdout)["state"], shown.stderr


def test_no_hold_out_call_is_sent_before_the_review(
    stopped: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    home, _, _ = stopped
    phases = {
        row["phase"]
        for path in (home / "runs" / "tested").glob("respond-*/responses.parquet")
        for row in pq.read_table(path, columns=["phase"]).to_pylist()
    }
    assert phases == {"search"}


@pytest.mark.slow
def test_rejected_questions_are_dropped_and_rewritten_ones_are_asked(
    reviewed: Reviewed,
) -> None:
    release = reviewed.release
    contents = release.contents
    kept = {q.id: q for q in contents.rows(QUESTIONS)}
    lost = {json.loads(d.record)["id"]: d for d in contents.rows(DROPPED) if d.kind == "question"}
    assert (lost[reviewed.dropped].stage, lost[reviewed.dropped].reason) == ("review", "review_offensive")
    new = kept[lost[reviewed.edited].because_of or ""]
    assert (new.parent_id, new.operator) == (reviewed.edited, "review")
    assert new.label in ("candidate", "confirmed")
    # Seeds depend on the port of the server, so another stage may drop a question that resembles a new one.
    assert reviewed.contested in kept or lost[reviewed.contested].stage == "deduplicate"
    answers = [r for r in contents.rows(RESPONSES) if r.question_id == new.id]
    assert {r.phase for r in answers} == {"holdout"}
    assert any(j.question_id == new.id for j in contents.rows(JUDGEMENTS))
    assert new.holdout_effect is not None


@pytest.mark.slow
def test_history_records_human_decisions_and_the_release_names_no_reviewer(
    reviewed: Reviewed,
) -> None:
    release = reviewed.release
    entries = {c.subject_id: c for c in release.contents.rows(LABEL_HISTORY) if c.judge == "people"}
    assert entries[reviewed.dropped].after == "dropped"
    assert reviewed.contested not in entries
    for path in release.path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".parquet":
                data = json.dumps(pq.read_table(path).to_pylist()).encode()
            assert not any(name.split()[1].encode() in data for name in NAMES), path


@pytest.mark.slow
def test_manifest_and_card_count_the_reviews(
    reviewed: Reviewed,
) -> None:
    release = reviewed.release
    found = release.manifest.review
    assert found is not None
    assert (found.people, found.questions) == (2, len(reviewed.questions))
    assert (found.dropped, found.edited, found.contested, found.shared) == (1, 1, 1, 1)
    card = (release.path / "README.md").read_text()
    assert f"People: 2; groups: {found.questions}" in " ".join(card.split())
    assert "> **Reviewers are divided.**" in card
    assert not (reviewed.home / "runs" / "tested" / "waiting.json").exists()


@pytest.mark.slow
def test_the_same_reviews_give_the_same_release_without_calls(
    reviewed: Reviewed, server: OpenAIServer
) -> None:
    release = reviewed.release
    sent = count_questions(server)
    assert built(reviewed.home, reviewed.recipe)["release"] == str(release.path)
    assert count_questions(server) == sent


@pytest.mark.slow
def test_another_verdict_sends_only_calls_of_restored_questions(
    reviewed: Reviewed, server: OpenAIServer
) -> None:
    release = reviewed.release
    say(reviewed.home, NAMES[0], [verdict(reviewed.dropped, "very_good")])
    sent = count_questions(server)
    again = open_release(Path(built(reviewed.home, reviewed.recipe)["release"]))
    assert again.path != release.path
    assert reviewed.dropped in {q.id for q in again.contents.rows(QUESTIONS)}
    answers = [r for r in again.contents.rows(RESPONSES) if r.question_id == reviewed.dropped]
    fresh = sum(r.phase == "holdout" for r in answers)
    verdicts = sum(j.question_id == reviewed.dropped for j in again.contents.rows(JUDGEMENTS))
    assert 0 < count_questions(server) - sent <= fresh + 2 * verdicts


@pytest.mark.slow
def test_with_wait_the_build_resumes_by_itself(server: OpenAIServer, tmp_path: Path) -> None:
    recipe = recipe_at(tmp_path, server, required=True, share=0.2)
    process = start(tmp_path, "build", recipe, "--wait", "--json")
    try:
        place = tmp_path / "runs" / "tested" / "waiting.json"
        end = time.monotonic() + 200
        while not place.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        waiting = waiting_at(tmp_path)
        say(tmp_path, NAMES[0], [verdict(q, "good") for q in waiting.questions[: waiting.needed]])
        out, err = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert Path(json.loads(out)["release"]).is_dir()
