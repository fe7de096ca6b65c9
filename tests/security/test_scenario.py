"""A stranger offers a release, a model server, files and a web page. Every command uses them."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.browser import CHROMIUM, FLAGS, needs_browser
from tests.release_fixtures import package_build
from tests.security.commands import run_here
from tests.security.hostile import aim_at, change_manifest, copy_release, page_server
from tests.servers.openai_server import OpenAIServer
from tests.tasks.release.example import small_build

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
SECRETS = {"HF_TOKEN": "hf_" + "s" * 37, "OPENAI_API_KEY": "sk-" + "t" * 40, "MY_SECRET": "u" * 40}
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
STRANGE_ANSWER = ESCAPE + '{"better": [], "worse": ['


@pytest.fixture
def stranger() -> Iterator[OpenAIServer]:
    with OpenAIServer(STRANGE_ANSWER) as running:
        yield running


@pytest.fixture
def mine() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def run(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")}
    environment |= {"COUNTERFOIL_HOME": str(home / "home"), "HF_HUB_OFFLINE": "1", **SECRETS}
    return subprocess.run(
        [COUNTERFOIL, *map(str, arguments)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def snapshot(*folders: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}


@dataclass(frozen=True)
class Played:
    """Effects of one command of the person."""

    command: str
    codes: frozenset[int]
    """Exit codes that are right."""
    code: int
    shown: str
    reached: int
    """Requests that reached the stranger's server."""
    asked: int
    """Requests to the model that the person named."""
    written: tuple[str, ...]
    """Files and folders that are new or changed outside the caches, relative to the person's folder."""
    sent: tuple[str, ...]
    """Secrets that were sent, shown or written. The key of the person's own server is not counted."""


def without_key(headers: dict[str, str]) -> dict[str, str]:
    """Return headers without OPENAI_API_KEY, which a server on this computer gets by rule."""
    return {name: value.replace(SECRETS["OPENAI_API_KEY"], "") for name, value in headers.items()}


class Scenario:
    """The folder of a person, and offers of a stranger: a release, a model server and a training file."""

    def __init__(self, small_release: Path, folder: Path, stranger: OpenAIServer, mine: OpenAIServer) -> None:
        self.stranger, self.mine, self.folder = stranger, mine, folder
        self.downloaded, self.person = folder / "downloaded", folder / "person"
        self.person.mkdir()
        address = stranger.url.removesuffix("/v1")
        self.release = aim_at(copy_release(small_release, self.downloaded), address, "MY_SECRET")
        change_manifest(self.release, lambda m: m["recipe"].update(title=f"Advice {ESCAPE}"))
        self.question = pq.read_table(self.release / "data" / "questions").to_pylist()[0]
        self.training = self.downloaded / "train.jsonl"
        row = {
            "query": f"who {ESCAPE} wrote it",
            "pos": ["She wrote it."],
            "neg": ["It was written by her.", "x"],
        }
        self.training.write_text("".join(json.dumps(row | {"id": f"../../{i}"}) + "\n" for i in range(5)))
        self.questions = self.downloaded / "questions.csv"
        self.questions.write_text(
            "question,attribute\n"
            '"How should I greet {noun}?",gender\n'
            f'"=HYPERLINK(1) Advise {{noun}} {ESCAPE}\u202e on ../../x, <script>alert(1)</script>?",gender\n'
        )
        texts = "".join(json.dumps({"template": f"text {i}"}) + "\n" for i in range(3))
        (self.person / "texts.jsonl").write_text(texts)

    def commands(self) -> list[tuple[tuple[object, ...], set[int]]]:
        """Return the commands of the person with their right exit codes."""
        release, model = self.release, self.mine.model("mine")
        evaluate = ("evaluate", release, "--model", model, "--free", model)
        corrected = self.question["template"].replace(".", " today.", 1)
        init = ("init", "--name", "mine", "--questions", self.questions, "--attributes", "gender")
        judge = self.mine.model("judge")
        written = ("--write", 1, "--writer", model, "--judge", judge, "--free", model, "--free", judge)
        own_model = ("--model", model, "--free", model)
        fix = ("fix", self.question["id"], "--text", corrected, "--reason", "x", "--release", release)
        return [
            (("verify", release), {0}),
            (("show", release), {0}),
            (("validate", release), {0, 3}),
            (("diff", release, release), {0}),
            (evaluate, {2}),
            ((*evaluate, "--judge", "divergence", "--out", "evaluation"), {0, 5}),
            (("rejudge", release, "--judge", "divergence", "--out", "rejudgement"), {0}),
            (
                (
                    "deduplicate",
                    "texts.jsonl",
                    "--text",
                    "template",
                    "--against",
                    release,
                    "--out",
                    "distinct",
                ),
                {0},
            ),
            (("relabel", self.training, "--out", "clean.jsonl"), {0}),
            (("relabel", self.training, *written, "--out", "longer.jsonl"), {0, 2, 5}),
            ((*fix, "--out", "fixed"), {0, 3}),
            (("compare", release), {0, 2}),
            (("compare", release, release), {0, 2}),
            (("export", release, "--format", "csv", "--out", "questions.csv"), {0}),
            (("export", release, "--format", "jsonl", "--out", "exported"), {0}),
            (("export", release, "--format", "lm-eval", "--out", "harness"), {0}),
            (("review", release, "--export", "sheet.csv"), {0}),
            ((*init, "--target", model), {0}),
            (("plan", "mine.yaml"), {0, 2, 5}),
            (("preview", "mine.yaml", "--send"), {0, 2, 5}),
            (("translate", "mine.yaml", "--to", "es", *own_model), {0, 2, 3, 5}),
            (("publish", release), {2}),
        ]

    def play(self, arguments: tuple[object, ...], codes: set[int]) -> Played:
        """Run a command and record its effects."""
        before = snapshot(self.person)
        reached, asked = len(self.stranger.requests), len(self.mine.requests)
        done = run(self.person, *arguments)
        shown = done.stdout + done.stderr
        after = snapshot(self.person)
        changed = [path for path, content in after.items() if before.get(path) != content]
        places = {path.relative_to(self.person).parts for path in changed}
        sent = [[without_key(dict(r.headers)), r.body] for r in self.mine.requests[asked:]]
        everything = shown + json.dumps(sent) + "".join(after[path].decode("latin-1") for path in changed)
        shortened = " ".join(Path(str(part)).name or str(part) for part in arguments[:1]) + "".join(
            f" {part}" for part in arguments[1:] if str(part).startswith("--") and str(part) != "--free"
        )
        return Played(
            shortened,
            frozenset(codes),
            done.returncode,
            shown,
            len(self.stranger.requests) - reached,
            len(self.mine.requests) - asked,
            tuple(sorted({f"{p[0]}/{p[1]}" if p[0] == "home" else p[0] for p in places})),
            tuple(name for name, value in SECRETS.items() if value in everything),
        )

    def play_all(self) -> list[Played]:
        return [self.play(arguments, codes) for arguments, codes in self.commands()]


@pytest.mark.slow
def test_nothing_reaches_the_stranger(
    small_release: Path, stranger: OpenAIServer, mine: OpenAIServer, tmp_path: Path
) -> None:
    scenario = Scenario(small_release, tmp_path, stranger, mine)
    before, outside = snapshot(scenario.downloaded), snapshot(small_release)
    for played in scenario.play_all():
        assert played.code in played.codes, (played.command, played.code, played.shown[-2000:])
        assert "Traceback" not in played.shown, (played.command, played.shown[-2000:])
        assert "\x1b" not in played.shown, played.command
        assert "\u202e" not in played.shown, played.command
        assert played.reached == 0, played.command
        assert played.sent == (), played.command
        assert snapshot(scenario.downloaded) == before, played.command
    assert snapshot(small_release) == outside
    assert mine.requests, "the person's own model was asked"
    assert {p.name for p in tmp_path.iterdir()} <= {"downloaded", "person"}
    assert not [p for p in scenario.person.rglob("*") if p.is_symlink()]
    for table in scenario.person.rglob("*.csv"):
        cells = [cell for row in csv.reader(table.open(encoding="utf-8-sig")) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t"))], table
    for manifest in scenario.person.glob("fixed/*/*/manifest.json"):
        recorded = json.loads(manifest.read_bytes())["recipe"]
        assert not {"api_keys", "limits", "model_limits"} & {
            name for name, value in recorded.items() if value
        }
        assert "/etc/passwd" not in json.dumps(recorded)
        assert "\x1b" not in (manifest.parent / "README.md").read_text()
        assert "\x1b" not in (manifest.parent / "report.html").read_text()


def test_control_characters_of_a_title_reach_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"title": f"Everyday {ESCAPE}advice", "description": f"One {ESCAPE}paragraph."}
    release = package_build(tmp_path, small_build(), recipe=texts)
    pages = [path for path in release.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert {"README.md", "report.html", "manifest.json"} <= {page.name for page in pages}
    for page in pages:
        assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", page.read_bytes()), page
    assert "# Everyday advice" in (release / "README.md").read_text()
    assert run_here(monkeypatch, tmp_path / "home", "show", release) == 0
    assert "\x1b" not in "".join(capsys.readouterr())


ATTACK = """<script>
const api = "http://127.0.0.1:%d/api";
const headers = {"Content-Type": "application/json"};
async function attempt(...request) {
  try { const answer = await fetch(...request); return answer.type + answer.status; }
  catch (error) { return "failed"; }
}
const post = (path, body, more) => attempt(api + path, {method: "POST", body: JSON.stringify(body), ...more});
window.attacks = Promise.all([
  attempt(api + "/deployments/name/relabel/relabel"),
  post("/deployments/filter", {}, {headers}),
  post("/flows/", {name: "planted"}, {headers}),
  post("/flows/", {name: "planted"}, {mode: "no-cors", credentials: "include"}),
]);
</script>"""


@pytest.mark.slow
@needs_browser
def test_page_of_the_stranger_cannot_use_serve(tmp_path: Path) -> None:
    """The person opens a page of the stranger while `serve` runs. Then its name leads to this computer."""
    from playwright.sync_api import sync_playwright

    from tests.flows.test_schedule import ask, free_port, start_serving, wait_for

    port = free_port()
    process = start_serving(tmp_path, port, "relabel", None)
    try:
        api = f"http://127.0.0.1:{port}/api"
        (deployment,) = wait_for(lambda: ask(api, "deployments/filter", {}), process)
        with page_server((ATTACK % port).encode()) as page_port, sync_playwright() as playwright:
            rebinding = "--host-resolver-rules=MAP evil.example 127.0.0.1"
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, rebinding])
            page = browser.new_page()
            page.goto(f"http://evil.example:{page_port}/")
            assert set(page.evaluate("window.attacks")) <= {"failed", "opaque0"}
            answer = page.goto(f"http://evil.example:{port}/api/deployments/{deployment['id']}")
            assert answer is not None
            assert answer.status == 403
            browser.close()
        assert ask(api, "flow_runs/filter", {}) == []
        assert "planted" not in {flow["name"] for flow in ask(api, "flows/filter", {})}
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_chosen_judge_of_a_stranger_gets_no_secret(
    small_release: Path, stranger: OpenAIServer, tmp_path: Path
) -> None:
    """The person names the stranger's judge. It gets the answers, and no variable but the usual one."""
    address = stranger.url.removesuffix("/v1")
    release = aim_at(copy_release(small_release, tmp_path / "downloaded"), address, "MY_SECRET")
    judge = f"openai:stranger@{stranger.url}"
    done = run(tmp_path, "rejudge", release, "--judge", judge, "--free", judge, "--out", "re")
    assert done.returncode in (0, 5), done.stderr
    assert "Traceback" not in done.stderr
    sent = json.dumps([[dict(request.headers), request.body] for request in stranger.requests])
    assert stranger.requests
    assert SECRETS["MY_SECRET"] not in sent
    assert SECRETS["HF_TOKEN"] not in sent


@pytest.mark.slow
def test_endless_answers_end(tmp_path: Path, small_release: Path) -> None:
    """An answer of gigabytes is a failure of the call, not of the program."""
    assert len(gzip.compress(b"x" * (1 << 20))) < 2_000  # such a body is easy to make
    long: Any = "x" * (9 << 20)
    with OpenAIServer(long) as server:
        judge = server.model("long")
        done = run(tmp_path, "rejudge", small_release, "--judge", judge, "--free", judge, "--out", "re")
    assert done.returncode in (0, 5), done.stderr
    assert "Traceback" not in done.stderr


def print_table() -> None:
    """Print the table of docs/security.md: `python -m tests.security.test_scenario`."""
    print("| command | exit code | reached the stranger | asked of the own model | written | secrets sent |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name, OpenAIServer(STRANGE_ANSWER) as other, OpenAIServer() as own:
        release = package_build(Path(name) / "small", small_build())
        folder = Path(name) / "scenario"
        folder.mkdir()
        for played in Scenario(release, folder, other, own).play_all():
            written = ", ".join(f"`{place}`" for place in played.written) or "nothing"
            sent = ", ".join(played.sent) or "none"
            cells = (f"`{played.command}`", played.code, played.reached, played.asked, written, sent)
            print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    print_table()
