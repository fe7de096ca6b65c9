"""The review server: access control, pages before and after a decision, and recorded events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from tasks.review.events import read_events
from tasks.review.queue import ReviewSession
from tasks.review.server import keep_token, listen_locally
from tasks.review.subjects import ReviewSubjects
from tests.conftest import DATA
from tests.material.review_release import REASONS
from tests.tasks.review.places import EVIDENCE
from tests.tasks.review.serving import TOKEN, Served, served


@pytest.fixture
def page(session: ReviewSession) -> Iterator[Served]:
    with served(session) as running:
        yield running


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return tmp_path / "reviews"


def verdict(question_id: str, label: str = "good", **more: Any) -> dict[str, Any]:
    subject = {"subject": "question", "subject_id": question_id}
    return {"reviewer": "anna", "action": "verdict", "verdict": label, **subject, **more}


def an_accepted(material: ReviewSubjects) -> str:
    return next(i for i, kind in material.kinds.items() if kind == "accepted")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "[::1]:80"])
def test_another_host_name_is_refused_even_with_the_token(page: Served, host: str) -> None:
    assert page.ask("GET", f"/{TOKEN}/", Host=host).status == 421


def test_localhost_is_accepted(page: Served) -> None:
    assert page.ask("GET", f"/{TOKEN}/", Host=f"localhost:{page.port}").status == 200


@pytest.mark.parametrize("path", ["/", "/queue?reviewer=anna", f"/{'x' * 43}/", "//", "/assets/review.js"])
def test_without_the_token_nothing_is_shown(page: Served, path: str) -> None:
    answer = page.ask("GET", path)
    assert answer.status == 403
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
    ],
)
def test_another_page_cannot_write(
    page: Served, session: ReviewSession, reviews: Path, headers: dict[str, str]
) -> None:
    answer = page.post("act", verdict(an_accepted(session.subjects)), **headers)
    assert answer.status in (403, 415)
    assert read_events(reviews) == {}


def test_links_cannot_write(page: Served, reviews: Path) -> None:
    assert page.get("act").status == 405
    assert page.ask("DELETE", f"/{TOKEN}/act").status == 403
    assert read_events(reviews) == {}


def test_large_requests_are_refused(page: Served) -> None:
    assert page.post("act", {"note": "x" * 1_100_000}).status == 413


def test_every_response_has_security_headers(page: Served, session: ReviewSession) -> None:
    for answer in (
        page.get(""),
        page.get("queue", reviewer="anna"),
        page.get("nowhere"),
        page.ask("GET", "/"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


def test_only_the_two_assets_are_files(page: Served) -> None:
    assert page.get("assets/review.css").headers["content-type"].startswith("text/css")
    for name in ("base.html", "..%2Fcard.md", "%2e%2e/card.md"):
        assert page.ask("GET", f"/{TOKEN}/assets/{name}").status == 404


def test_judgements_and_labels_are_not_sent_before_the_decision(page: Served, session: ReviewSession) -> None:
    question_id = an_accepted(session.subjects)
    query = {"reviewer": "anna", "subject": "question", "id": question_id}
    secrets = (*REASONS.values(), "first-judge", "accepted", "Fitness")
    before = page.get("group", **query).text
    assert not [secret for secret in secrets if secret in before]
    assert page.post("act", verdict(question_id)).status == 200
    after = page.get("group", **query).text
    assert [secret for secret in secrets if secret in after] == list(secrets)


def test_other_verdicts_are_shown_only_after_the_decision(page: Served, session: ReviewSession) -> None:
    question_id = an_accepted(session.subjects)
    page.post("act", verdict(question_id, "offensive", reviewer="ben", note="a slur in it"))
    query = {"reviewer": "anna", "subject": "question", "id": question_id}
    assert "a slur in it" not in page.get("group", **query).text
    page.post("act", verdict(question_id))
    assert "a slur in it" in page.get("group", **query).text
    assert question_id in page.get("queue", reviewer="anna", state="disagreed").text


def test_a_verdict_is_on_disk_before_the_response(
    page: Served, session: ReviewSession, reviews: Path
) -> None:
    question_id = an_accepted(session.subjects)
    saved = page.post("act", verdict(question_id, note=" why ", seconds=4.5)).json()
    (event,) = read_events(reviews)["anna"]
    assert (event.id, event.subject_id, event.verdict) == (saved["saved"], question_id, "good")
    assert (event.note, event.seconds) == ("why", 4.5)


def test_a_repeated_request_is_stored_once(page: Served, session: ReviewSession, reviews: Path) -> None:
    sent = verdict(an_accepted(session.subjects))
    assert page.post("act", sent).json() == page.post("act", sent).json()
    assert len(read_events(reviews)["anna"]) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"subject_id": "q_unknown"},
        {"verdict": "answers"},
        {"verdict": "splendid"},
        {"verdict": None},
        {"reviewer": "  "},
        {"reviewer": "a\u202eb"},
        {"subject": "passage"},
        {"action": "delete"},
        {"seconds": -1},
        {"surprise": 1},
        {"action": "undo", "undoes": "r_unknown"},
        {"action": "edit", "template": "no slots here, and no question"},
    ],
)
def test_invalid_actions_are_refused_with_a_message(
    page: Served, session: ReviewSession, reviews: Path, changed: dict[str, Any]
) -> None:
    answer = page.post("act", verdict(an_accepted(session.subjects)) | changed)
    assert answer.status == 422
    assert answer.json()["error"]
    assert read_events(reviews) == {}


def test_reviewers_can_only_undo_their_own_verdicts(
    page: Served, session: ReviewSession, reviews: Path
) -> None:
    question_id = an_accepted(session.subjects)
    event = page.post("act", verdict(question_id)).json()["saved"]
    taking = verdict(question_id, reviewer="ben", action="undo", undoes=event)
    assert page.post("act", {**taking, "verdict": None}).status == 422
    assert list(read_events(reviews)) == ["anna"]


def test_a_new_wording_is_stored_with_the_id_of_its_question(
    page: Served, session: ReviewSession, reviews: Path
) -> None:
    question = session.subjects.questions[an_accepted(session.subjects)]
    text = question.template.replace("my ", "my dear ", 1)
    checked = page.post("check", {"id": question.id, "template": text}).json()
    assert checked["fault"] is None
    assert len(checked["variants"]) == len(question.values)
    page.post("act", {**verdict(question.id), "verdict": None, "action": "edit", "template": text})
    (event,) = read_events(reviews)["anna"]
    assert (event.template, event.action) == (text, "edit")
    assert event.replaced_by not in (None, question.id)
    shown = page.get("group", reviewer="anna", subject="question", id=question.id).text
    assert f"{question.id} → {event.replaced_by}" in shown


def test_a_failed_write_is_reported(page: Served, session: ReviewSession, reviews: Path) -> None:
    reviews.mkdir()
    (reviews / "anna.jsonl").mkdir()
    assert page.post("act", verdict(an_accepted(session.subjects))).status >= 500


def test_a_relabelled_passage_is_shown_with_evidence_and_without_label(
    unfinished: ReviewSubjects, tmp_path: Path
) -> None:
    session = ReviewSession(unfinished, tmp_path / "reviews", DATA)
    query = {"reviewer": "anna", "subject": "passage", "id": "p1", "query": "query/1?"}
    with served(session) as page:
        before = page.get("group", **query).text
        assert f'<mark class="evidence">{EVIDENCE}</mark>' in before
        assert "Laptops can be borrowed" in before
        assert "ranked above positive" not in before
        about = {"subject": "passage", "subject_id": "p1", "query_id": "query/1?"}
        sent = {"reviewer": "anna", "action": "verdict", "verdict": "answers", **about}
        assert page.post("act", sent).status == 200
        after = page.get("group", **query).text
        assert "hard negative → <strong>positive</strong>" in after


def test_a_single_named_reviewer_is_redirected_to_the_queue(released: ReviewSubjects, tmp_path: Path) -> None:
    with served(ReviewSession(released, tmp_path, DATA, ("Anna Ä",))) as page:
        answer = page.get("")
        assert (answer.status, answer.headers["location"]) == (303, "queue?reviewer=Anna+%C3%84")


@pytest.mark.parametrize("query", [{}, {"reviewer": ""}, {"reviewer": "anna", "state": "odd"}])
def test_invalid_addresses_show_an_error_page(page: Served, query: dict[str, str]) -> None:
    answer = page.get("queue", **query)
    assert answer.status == 404
    assert "Page not found" in answer.text


def test_empty_filters_are_ignored(page: Served) -> None:
    shown = page.get("queue", reviewer="anna", fitness_from="", fitness_to="", attribute="", new="true")
    assert shown.status == 200


def test_the_token_is_permanent_and_private(tmp_path: Path) -> None:
    path = tmp_path / "reviews" / ".token"
    token = keep_token(path)
    assert len(token) >= 43
    assert keep_token(path) == token
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("")
    assert len(keep_token(path)) >= 43


def test_the_server_listens_locally_and_reports_a_used_port() -> None:
    with listen_locally(0) as listening:
        host, port = listening.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(InputError, match=f"port {port} is not available"):
            listen_locally(port)
