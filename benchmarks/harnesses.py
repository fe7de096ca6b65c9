"""Run the harness files of a release in Inspect and lm-evaluation-harness and check their figures.

    python -m benchmarks.harnesses data/releases/quickstart/0.1.0 [--model embedded] [--home DIR]

Each harness gets its own environment (from PyPI, once). It sees only the release, not this project, and sends
its requests to a server on the loopback interface. By default the server has a known bias: it favours all
values but women, follows every stereotype, and gives women different advice. Every figure then has one
correct value. `--model embedded` uses the embedded language model instead and prints its figures.
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
"""Packages of each environment."""
MODEL = "smollm2-135m"
ADVICE = {True: "Wait until somebody senior agrees.", False: "Go ahead now!"}
"""Scripted advice, by whether the variant is about a woman."""


@dataclass(frozen=True)
class Endpoint:
    """Address and key of a model server."""

    url: str
    key: str


Figures = dict[str, float]
"""`<task>.<figure>.<controls>` to its value."""


def create_environment(home: Path, name: str) -> Path:
    """Return the folder of the environment's commands. Create the environment on first use."""
    folder = home / name
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES[name]]
        subprocess.run(install, check=True)
        (folder / ".ready").touch()
    return folder / "bin"


def run_inspect(commands: Path, release: Path, endpoint: Endpoint, out: Path, samples: int) -> Figures:
    """Run every Inspect task of the release and return its figures."""
    figures = {}
    families = read_eval_file(release)["families"].values()
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
    """Run the lm-evaluation-harness tasks of the release and return their figures.

    Tasks that read answers use the model. Tasks that read likelihoods use the harness's dummy model, which
    shows only that they run.
    """
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
    for tasks, arguments, label in runs:
        folder = out / "lm_eval" / label
        command = [*common, "--tasks", ",".join(tasks), *arguments, "--output_path", str(folder)]
        _run(command, out, OPENAI_API_KEY=endpoint.key)
        (path,) = folder.rglob("results*.json")
        for task, results in json.loads(path.read_text())["results"].items():
            for figure, value in results.items():
                if figure.endswith(",none") and isinstance(value, float):
                    family = task.removeprefix(f"{read_eval_file(release)['name']}_")
                    figures[f"{label}.{family}.{figure.removesuffix(',none')}"] = value
    return figures


def _run(command: list[str], out: Path, **variables: str) -> None:
    """Run a command in the output folder, without this project on Python's path."""
    out.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=out, env={**clean, "HF_HUB_OFFLINE": "1", **variables}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def read_eval_file(release: Path) -> dict[str, Any]:
    """Read `evals/eval.yaml` of a release."""
    content: dict[str, Any] = yaml.safe_load((release / "evals" / "eval.yaml").read_text(encoding="utf-8"))
    return content


def make_biased_model(release: Path) -> Any:
    """Return a scripted model with a known answer to every variant of the release."""
    contents = open_release(release).contents
    variants = {
        v["text"]: (q, v)
        for c in ("questions", "controls")
        for q in contents.records(c)
        for v in q["variants"]
    }

    def answer(messages: Messages, body: Body) -> str:
        prompt = messages[-1]["content"]
        question, variant = next(found for text, found in variants.items() if text in prompt)
        if question["family"] == "decision":
            return "No." if variant["value"] == "woman" else "Yes."
        if question["family"] == "completion":
            congruent = next(o["text"] for o in question["options"] if o["valence"] == variant["valence"])
            return next(line[0] for line in prompt.splitlines() if line[1:].startswith(f". {congruent}"))
        return ADVICE[variant["value"] == "woman"]

    return answer


def expected_figures(release: Path) -> Figures:
    """Return the correct figures of the biased model, which treats one of three genders differently."""
    families = read_eval_file(release)["families"]
    expected = {}
    if "open" in families:
        expected |= {"advice.words.none": 2 / 3, "advice.words.a_a": 0.0, "advice.words.placebo": 0.0}
    if "decision" in families:
        expected |= {"decisions.gap.none": 1.0, "decisions.gap.a_a": 0.0, "decisions.gap.placebo": 0.0}
        expected |= {"decisions.excess.none": 2 / 3, "decisions.invalid.none": 0.0}
        expected |= {"lm_eval.decision.gap": 1.0, "lm_eval.decision.gap_floor": 0.0}
    if "completion" in families:
        expected |= {"completions.congruence.none": 1.0, "lm_eval.completion.congruence": 1.0}
    return expected


def list_differences(found: Mapping[str, float], expected: Mapping[str, float]) -> list[str]:
    """Describe the figures that differ from the expected ones."""
    return [
        f"{name}: {found.get(name)}, expected {value:.3f}"
        for name, value in expected.items()
        if abs(found.get(name, float("nan")) - value) > 1e-3 or name not in found
    ]


@contextmanager
def serve_model(model: str, release: Path) -> Iterator[Endpoint]:
    """Serve the embedded or the biased model for the block."""
    if model == "embedded":
        from tasks.models.embedded import embedded_servers

        server = embedded_servers(MODEL)[0]
        yield Endpoint(server.endpoint, server.api_key)
        return
    with OpenAIServer(make_biased_model(release)) as scripted:
        yield Endpoint(scripted.url, "none")


def main() -> None:
    """Run both harnesses and print their figures. The exit status is 1 if a known figure is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("release", type=Path, help="folder of a release")
    parser.add_argument("--model", choices=["biased", "embedded"], default="biased", help="model to measure")
    parser.add_argument(
        "--home", type=Path, default=Path("data/cache/harnesses"), help="folder of environments and logs"
    )
    parser.add_argument("--samples", type=int, default=3, help="answers per variant")
    options = parser.parse_args()
    home, release = options.home.resolve(), options.release.resolve()
    with serve_model(options.model, release) as endpoint:
        figures = run_inspect(
            create_environment(home, "inspect"), release, endpoint, home / "out", options.samples
        )
        figures |= run_lm_eval(create_environment(home, "lm_eval"), release, endpoint, home / "out")
    for name, value in figures.items():
        print(f"{name:45} {value:8.3f}")
    open_release(release)  # fails if a harness has changed the release
    if options.model == "biased":
        wrong = list_differences(figures, expected_figures(release))
        print("\n".join(wrong) or f"all {len(expected_figures(release))} known figures are correct")
        sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
