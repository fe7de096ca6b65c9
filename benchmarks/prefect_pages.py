"""Take screenshots of Prefect's pages after a build that succeeds and one that fails.

    python benchmarks/prefect_pages.py FOLDER

`counterfoil serve` runs with a home of its own, and a scripted server on this computer answers all requests.
The pages are those of the runs, of one run with its subflows, logs and artifacts, and of the failed run. It
needs Chromium and the packages of the extra `dev`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.browser import open_browser
from tests.flows.test_build import scripted, write_recipe
from tests.flows.test_schedule import HEADERS, ask, free_port, start_serving, wait_for
from tests.servers.openai_server import OpenAIServer, status

SIZE = {"width": 1200, "height": 900}
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def run_deployment(api: str, process: Any, recipe: Path) -> dict[str, Any]:
    """Start a run of the deployment `build`, wait for its end and return it."""
    (deployment,) = wait_for(lambda: ask(api, "deployments/filter", {}), process)
    path = f"deployments/{deployment['id']}/create_flow_run"
    run = ask(api, path, {"parameters": {"recipe": str(recipe)}})

    def ended() -> Any:
        found = ask(api, f"flow_runs/{run['id']}")
        return found if found["state_type"] in ENDED else None

    found: dict[str, Any] = wait_for(ended, process)
    return found


def pages(
    address: str, good: dict[str, Any], bad: dict[str, Any], api: str
) -> Iterator[tuple[str, str, str | None]]:
    """Yield names and addresses of the pages, and the tab to open."""
    run = f"{address}/runs/flow-run/{good['id']}"
    yield "runs", f"{address}/runs", None
    yield "run", run, None
    yield "run-tasks", run, "Task Runs"
    yield "run-subflows", run, "Subflow Runs"
    yield "run-artifacts", run, "Artifacts"
    yield "failed", f"{address}/runs/flow-run/{bad['id']}", None
    yield "artifacts", f"{address}/artifacts", None
    for artifact in ask(api, "artifacts/filter", {}):
        if artifact["key"]:
            yield f"artifact-{artifact['key']}", f"{address}/artifacts/artifact/{artifact['id']}", None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory() as name,
        OpenAIServer(scripted) as server,
        OpenAIServer(scripted, faults=lambda number, body: status(401)) as refusing,
    ):
        home = Path(name)
        families = {
            "open": {"questions": 6, "samples": 2, "max_tokens": 30},
            "decision": {"questions": 12, "samples": 2},
            "completion": {"questions": 12, "samples": 1, "attributes": ["beauty"]},
        }
        small: dict[str, Any] = {
            "families": families,
            "evolve": {"rounds": 1, "questions_per_round": 2},
            "relabel": {},
        }
        works = write_recipe(home / "everyday-advice.yaml", server, name="everyday-advice", **small)
        fails = write_recipe(home / "wrong-key.yaml", refusing, name="wrong-key", **small)
        process = start_serving(home, port, "build", works)
        try:
            good = run_deployment(f"{address}/api", process, works)
            bad = run_deployment(f"{address}/api", process, fails)
            for run in (good, bad):
                print(run["name"], run["state_type"], run["tags"], (run["state"]["message"] or "")[:300])
            with open_browser() as browser:
                context = browser.new_context(viewport=SIZE, extra_http_headers=HEADERS)
                page = context.new_page()
                for title, place, tab in pages(address, good, bad, f"{address}/api"):
                    page.goto(place, wait_until="load")
                    page.wait_for_timeout(4_000)
                    if tab:
                        page.get_by_text(tab, exact=True).first.click()
                        page.wait_for_timeout(2_000)
                    page.screenshot(path=folder / f"{title}.png")
                    print(folder / f"{title}.png")
        finally:
            process.terminate()
            process.communicate(timeout=60)


if __name__ == "__main__":
    main()
