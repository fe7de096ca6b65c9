"""Do the harness files of a release run where they are meant to, and measure what is there?

    python -m benchmarks.harnesses data/releases/quickstart/0.1.0 [--model embedded] [--home DIR]

Inspect and lm-evaluation-harness get an environment of their own (from PyPI, once), see nothing of this
project but the release, and ask a server on loopback. By default that is one whose bias is known: it favours
everybody but women, follows every stereotype, and tells women one thing and others another, so that every
figure has one right value. `--model embedded` asks the embedded language model instead, and prints what it
shows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.release import open_release
from tests.servers.openai_server import Body, Messages, OpenAIServer

PACKAGES = {
    "inspect": ("inspect_ai==0.3.285", "openai>=3", "pyarrow", "huggingface_hub"),
    "lm_eval": ("lm_eval[api]==0.4.13",),
}
"""What each environment gets."""
MODEL = "smollm2-135m"
TOLD = {True: "Wait until somebody senior agrees.", False: "Go ahead now!"}
"""The scripted advice: to women, to others."""


@dataclass(frozen=True)
class Endpoint:
    """Where the model answers, and its key."""

    url: str
    key: str


Figures = dict[str, float]
"""`<task>.<figure>.<controls>` to its value."""


def environment(home: Path, name: str) -> Path:
    """The environment's folder of commands; made where it is not there yet."""
    place = home / name
    if not (place / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        install = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES[name]]
        subprocess.run(install, check=True)
        (place / ".ready").touch()
    return place / "bin"


def run_inspect(commands: Path, release: Path, endpoint: Endpoint, out: Path, samples: int) -> Figures:
    """Every Inspect task of the release."""
    figures = {}
    families = about(release)["families"].values()
    for task in sorted(f["inspect"] for f in families):
        logs = out / task
        shutil.rmtree(logs, ignore_errors=True)
        command = [
            *(str(commands / "inspect"), "eval", f"{release / 'evals' / 'counterfoil_inspect.py'}@{task}"),
            *("--model", f"openai-api/local/{MODEL}", "--display", "none", "-T", f"samples={samples}"),
            *("-T", "max_tokens=24", "--log-dir", str(logs), "--log-format", "json"),
        ]
        _run(command, out, LOCAL_BASE_URL=endpoint.url, LOCAL_API_KEY=endpoint.key)
        (log,) = logs.glob("*.json")
        for score in json.loads(log.read_text())["results"]["scores"]:
            for metric in score["metrics"].values():
                figures[f"{task}.{score['name']}.{metric['name']}"] = float(metric["value"])
    return figures


def run_lm_eval(commands: Path, release: Path, endpoint: Endpoint, out: Path) -> Figures:
    """Every task of the release that reads answers, asked of the model; and those that read likelihoods, over
    lm-evaluation-harness's own dummy model, whose numbers mean nothing: they show that the task runs."""
    texts, likelihoods = [], []
    for path in sorted((release / "evals").glob("lm_eval_*.yaml")):
        name = next(line for line in path.read_text().splitlines() if line.startswith("task: "))[6:]
        (likelihoods if name.endswith("_likelihood") else texts).append(name)
    shutil.rmtree(out / "lm_eval", ignore_errors=True)
    common = [str(commands / "lm_eval"), "--include_path", str(release / "evals")]
    model = f"model={MODEL},base_url={endpoint.url}/chat/completions,num_concurrent=1,max_retries=3"
    chat = ["--model", "local-chat-completions", "--model_args", model, "--apply_chat_template"]
    runs = ((texts, chat, "lm_eval"), (likelihoods, ["--model", "dummy"], "dummy"))
    figures = {}
    for tasks, asked, label in runs:
        place = out / "lm_eval" / label
        command = [*common, "--tasks", ",".join(tasks), *asked, "--output_path", str(place)]
        _run(command, out, OPENAI_API_KEY=endpoint.key)
        (found,) = place.rglob("results*.json")
        for task, results in json.loads(found.read_text())["results"].items():
            for figure, value in results.items():
                if figure.endswith(",none") and isinstance(value, float):
                    family = task.removeprefix(f"{about(release)['name']}_")
                    figures[f"{label}.{family}.{figure.removesuffix(',none')}"] = value
    return figures


def _run(command: list[str], out: Path, **variables: str) -> None:
    """In the outermost folder, without this project on Python's path."""
    out.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=out, env={**clean, "HF_HUB_OFFLINE": "1", **variables}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def about(release: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((release / "evals" / "eval.yaml").read_text(encoding="utf-8"))
    return found


def biased(release: Path) -> Any:
    """A model whose answer to every variant of the release is known."""
    contents = open_release(release).contents
    asked = {
        v["text"]: (q, v)
        for c in ("questions", "controls")
        for q in contents.records(c)
        for v in q["variants"]
    }

    def answer(messages: Messages, body: Body) -> str:
        said = messages[-1]["content"]
        question, variant = next(found for text, found in asked.items() if text in said)
        if question["family"] == "decision":
            return "No." if variant["value"] == "woman" else "Yes."
        if question["family"] == "completion":
            liked = next(o["text"] for o in question["options"] if o["valence"] == variant["valence"])
            return next(line[0] for line in said.splitlines() if line[1:].startswith(f". {liked}"))
        return TOLD[variant["value"] == "woman"]

    return answer


def right_answers(release: Path) -> Figures:
    """What the figures of the biased model are, by arithmetic: one of three genders is told other things."""
    families = about(release)["families"]
    right = {}
    if "open" in families:
        right |= {"advice.words.none": 2 / 3, "advice.words.a_a": 0.0, "advice.words.placebo": 0.0}
    if "decision" in families:
        right |= {"decisions.gap.none": 1.0, "decisions.gap.a_a": 0.0, "decisions.gap.placebo": 0.0}
        right |= {"decisions.excess.none": 2 / 3, "decisions.invalid.none": 0.0}
        right |= {"lm_eval.decision.gap": 1.0, "lm_eval.decision.gap_floor": 0.0}
    if "completion" in families:
        right |= {"completions.congruence.none": 1.0, "lm_eval.completion.congruence": 1.0}
    return right


def misses(found: Mapping[str, float], right: Mapping[str, float]) -> list[str]:
    """The figures that are not what they must be."""
    return [
        f"{name}: {found.get(name)} instead of {value:.3f}"
        for name, value in right.items()
        if abs(found.get(name, float("nan")) - value) > 1e-3 or name not in found
    ]


@contextmanager
def serve(model: str, release: Path) -> Iterator[Endpoint]:
    if model == "embedded":
        from tasks.models.embedded import embedded_servers

        server = embedded_servers(MODEL)[0]
        yield Endpoint(server.endpoint, server.api_key)
        return
    with OpenAIServer(biased(release)) as scripted:
        yield Endpoint(scripted.url, "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--model", choices=["biased", "embedded"], default="biased")
    parser.add_argument(
        "--home", type=Path, default=Path("data/cache/harnesses"), help="environments and logs"
    )
    parser.add_argument("--samples", type=int, default=3)
    given = parser.parse_args()
    home, release = given.home.resolve(), given.release.resolve()
    with serve(given.model, release) as endpoint:
        found = run_inspect(environment(home, "inspect"), release, endpoint, home / "out", given.samples)
        found |= run_lm_eval(environment(home, "lm_eval"), release, endpoint, home / "out")
    for name, value in found.items():
        print(f"{name:45} {value:8.3f}")
    open_release(release)  # running it has changed nothing
    if given.model == "biased":
        wrong = misses(found, right_answers(release))
        print("\n".join(wrong) or f"all {len(right_answers(release))} known figures are right")
        sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
