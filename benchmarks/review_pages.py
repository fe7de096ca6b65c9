"""Measure the response times of the review server with 10,000 groups.

    python -m benchmarks.review_pages [--groups 10000] [--json]

Times are measured in the server, from the arrival of a request to its last byte. Two reviewers have decided a
third of the groups. CPU time is that of the process during the request.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import uvicorn

from schemas.labels import KEEPING
from tasks.review.events import Act, append_events
from tasks.review.queue import ReviewSession
from tasks.review.server import App, Receive, RequestGuard, Scope, Send, create_app, listen_locally
from tasks.review.subjects import open_subjects
from tests.material.good_tables import DATA
from tests.material.review_release import write_review_release

TOKEN = "t" * 43
REVIEWERS = ("anna", "ben")
REQUESTS = 40
"""Number of requests per kind of page."""
Times = tuple[float, float]
"""Wall-clock and CPU seconds."""


class Stopwatch:
    """An ASGI wrapper that records the time of each request by page."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.seconds: dict[str, list[Times]] = defaultdict(list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the app and record its time."""
        started = time.perf_counter(), time.process_time()
        await self._app(scope, receive, send)
        if scope["type"] == "http":
            took = time.perf_counter() - started[0], time.process_time() - started[1]
            self.seconds[scope["path"].rsplit("/", 1)[-1]].append(took)


def measure(groups: int) -> dict[str, Any]:
    """Write a release, decide a third of its groups, and time the pages."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        questions = write_review_release(home / "release", groups)
        started = time.perf_counter()
        subjects = open_subjects(home / "release", home)
        for reviewer in REVIEWERS:
            append_events(home / "reviews", reviewer, [_make_verdict(q.id, reviewer) for q in questions[::3]])
        session = ReviewSession(subjects, home / "reviews", DATA, REVIEWERS)
        opened = time.perf_counter() - started
        seconds = _request_pages(session, [q.id for q in questions])
    return {
        "groups": groups,
        "events": 2 * len(questions[::3]),
        "opening_s": round(opened, 2),
        "pages": {name: _percentiles(times) for name, times in sorted(seconds.items())},
    }


def _make_verdict(question_id: str, reviewer: str) -> Act:
    verdict = random.Random(f"{question_id} {reviewer}").choice((*KEEPING, "repetition", "discuss"))
    return Act.model_validate(
        {"action": "verdict", "subject": "question", "subject_id": question_id, "verdict": verdict}
    )


def _request_pages(session: ReviewSession, ids: list[str]) -> dict[str, list[Times]]:
    with listen_locally(0) as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        watch = Stopwatch(RequestGuard(create_app(session), token=TOKEN, hosts={host}))
        server = uvicorn.Server(uvicorn.Config(watch, log_level="critical", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        for address, sent in reviewer_requests(session, random.Random(1).sample(ids, REQUESTS)):
            body = json.dumps(sent).encode() if sent else None
            headers = {"Origin": f"http://{host}", "Content-Type": "application/json"}
            with urlopen(Request(f"http://{host}/{TOKEN}/{address}", body, headers)) as answer:
                answer.read()
        server.should_exit = True
        thread.join()
        return watch.seconds


def reviewer_requests(
    session: ReviewSession, ids: Iterable[str]
) -> Iterable[tuple[str, dict[str, Any] | None]]:
    """Yield the path and body of a reviewer's requests: filtered queues, groups, text checks, verdicts."""
    filters = (
        {},
        {"state": "done", "page": 20},
        {"state": "disagreed", "scope": "everyone"},
        {"attribute": "gender", "fitness_from": 0.1, "order": "fitness"},
        {"domain": "work", "disagreement_from": 0.2, "order": "disagreement"},
    )
    for number, question_id in enumerate(ids):
        chosen = filters[number % len(filters)]
        yield f"queue?{urlencode({'reviewer': 'anna', **chosen})}", None
        about = {"subject": "question", "id": question_id}
        yield f"group?{urlencode({'reviewer': 'anna', **about})}", None
        text = session.subjects.questions[question_id].template.replace("my ", "my dear ", 1)
        yield "check", {"id": question_id, "template": text}
        act = {"action": "verdict", "subject": "question", "subject_id": question_id, "verdict": "good"}
        yield "act", {"reviewer": "anna", "note": f"seen {number}", **act}


def _percentiles(times: list[Times]) -> dict[str, float]:
    figures: dict[str, float] = {"requests": len(times)}
    for kind, seconds in zip(("", "cpu_"), zip(*times, strict=True), strict=True):
        ordered = sorted(seconds)
        for share in (50, 95):
            at = ordered[int(share / 100 * (len(ordered) - 1))]
            figures[f"{kind}p{share}_ms"] = round(at * 1000, 1)
    return figures


def main() -> None:
    """Measure the pages and print percentiles of their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--groups", type=int, default=10_000, help="groups of the release")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    result = measure(options.groups)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['groups']:,} groups, {result['events']:,} verdicts, opened in {result['opening_s']} s")
    for name, times in result["pages"].items():
        wall, cpu = ([times[f"{kind}p{share}_ms"] for share in (50, 95)] for kind in ("", "cpu_"))
        print(f"{name:6} p50 {wall[0]:6.1f} ms  p95 {wall[1]:6.1f} ms  (CPU {cpu[0]:.1f}, {cpu[1]:.1f} ms)")


if __name__ == "__main__":
    main()
