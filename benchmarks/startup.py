"""CPU seconds of commands that do little: help, looking at a release, and refused commands.

    python benchmarks/startup.py [--json] [--only NAME…]

Every command runs three times in a process of its own, after one run that fills the caches of the disk. The
smallest figure counts, because a busy machine only adds to it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.release_fixtures import package_build
from tests.servers.openai_server import OpenAIServer
from tests.tasks.release.example import large_build, small_build

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
RUNS = 3


@dataclass(frozen=True)
class Case:
    """A command and the most that it may cost."""

    name: str
    arguments: tuple[str, ...]
    """`NUMBER` is replaced by the number of the run."""
    bound_s: float
    code: int = 0
    """Expected exit code. -1: any."""


RECIPE = """name: startup
seed: 3
attributes: [beauty]
families: {{completion: {{questions: 6, samples: 1}}}}
models: {{targets: ['{model}']}}
budget: {{free: ['{model}']}}
"""


def cases(place: Path, server: OpenAIServer) -> list[Case]:
    """Return the commands. The releases that they read are made in a folder."""
    recipe = place / "startup.yaml"
    recipe.write_text(RECIPE.format(model=server.model()), encoding="utf-8")
    small = str(package_build(place / "small", small_build()))
    built, question_id, template = build_release(place, recipe)
    large = str(package_build(place / "large", large_build()))
    correction = ("--text", f"{template} Think first.", "--reason", "asks for thought")
    retrieval = str(PROJECT / "data/examples/retrieval.jsonl")
    return [
        Case("--help", ("--help",), 0.3),
        Case("show", ("show", small), 0.8),
        Case("verify", ("verify", small), 1.0),
        Case("plan", ("plan", "quickstart"), 2.0),
        Case("diff", ("diff", small, small), 1.5),
        Case("relabel", ("relabel", retrieval, "--format", "flagembedding"), 1.5),
        Case("validate", ("validate", large), 6.0, code=-1),
        Case("models", ("models", "quickstart"), 1.5, code=-1),
        Case(
            "fix",
            ("fix", question_id, *correction, "--release", built, "--out", str(place / "fixed-NUMBER")),
            8.0,
        ),
        Case("small build", ("build", str(recipe), "--fresh"), 8.0),
        Case("small build on Prefect", ("build", str(recipe), "--fresh", "--prefect"), 60.0),
        Case("refused build", ("build", "nowhere.yaml"), 1.5, 2),
        Case("refused evaluate", ("evaluate", str(place / "none"), "--model", "openai:x"), 1.5, 2),
        Case(
            "refused fix",
            ("fix", "no-such-question", *correction, "--release", small),
            1.5,
            2,
        ),
        Case("refused relabel", ("relabel", retrieval, "--format", "none"), 1.5, 2),
        Case("refused address", ("build", "quickstart", "--out", "s3://bucket/x"), 1.5, 2),
    ]


def build_release(place: Path, recipe: Path) -> tuple[str, str, str]:
    """Build a release. Return its path, and the id and the template of one of its questions."""
    command = [str(COUNTERFOIL), "build", str(recipe), "--out", str(place / "releases"), "--json"]
    environment = {**os.environ, "COUNTERFOIL_HOME": str(place / "built")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    release = str(json.loads(done.stdout)["release"])
    (file,) = Path(release).glob("data/questions/*.parquet")
    question = pq.read_table(file, columns=["id", "template"]).to_pylist()[0]
    return release, question["id"], question["template"]


def measure(case: Case, home: Path) -> tuple[float, str | None]:
    """Return the CPU seconds of the best run, and what was wrong with its exit code."""
    best = float("inf")
    for number in range(RUNS + 1):
        before = os.times()
        environment = {**os.environ, "COUNTERFOIL_HOME": str(home), "HF_HUB_OFFLINE": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the first run compiles what the others import
        command = [str(COUNTERFOIL), *(text.replace("NUMBER", str(number)) for text in case.arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        after = os.times()
        if case.code >= 0 and done.returncode != case.code:
            return best, f"exit code {done.returncode}: {done.stderr[-300:]}"
        if number:
            spent = after.children_user - before.children_user
            best = min(best, spent + after.children_system - before.children_system)
    return best, None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        with OpenAIServer("B") as server:
            for case in cases(Path(folder), server):
                if options.only is None or case.name in options.only:
                    seconds, problem = measure(case, Path(folder) / "home")
                    row = {"name": case.name, "cpu_s": round(seconds, 2), "bound_s": case.bound_s}
                    rows.append(row | {"problem": problem})
                    if not options.json:
                        print(f"{case.name:24} {seconds:6.2f} of {case.bound_s} {problem or ''}", flush=True)
    if options.json:
        print(json.dumps({"commands": rows}))
    sys.exit(any(row["problem"] or row["cpu_s"] > row["bound_s"] for row in rows))


if __name__ == "__main__":
    main()
