"""Run the harness files of a release in Inspect and lm-evaluation-harness and check their figures.

    python -m benchmarks.harnesses [RELEASE] [--model embedded] [--home DIR] [--questions N]

Without RELEASE, one with every family is built first. Each harness has its own environment (from PyPI, once).
It sees only the release, not this project, and sends its requests to a server on the loopback interface. By
default the server has a known bias against the first value of every question: it decides against it, gives it
other answers and follows every stereotype. Every figure then has one correct value. `--model embedded` uses
the embedded language model instead and prints its figures. It returns no likelihoods of texts, so those tasks
are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from schemas.recipe import FAMILIES
from tasks.families import method_of
from tasks.release import open_release
from tests.servers.openai_server import Body, Messages, OpenAIServer

PACKAGES = {
    "inspect": ("inspect_ai==0.3.285", "openai>=3", "pyarrow", "huggingface_hub"),
    "lm_eval": ("lm_eval[api]==0.4.13",),
}
"""Packages of each environment."""
MODEL = "smollm2-135m"
ADVICE = {True: "Wait until somebody senior agrees.", False: "Go ahead now!"}
"""Scripted advice, by whether the variant is treated differently."""
LIKELY, UNLIKELY = 0.8, 0.1
"""Probabilities of labels: of the scripted answer, and of every other one."""
STATEMENTS = """thesis,party,position
Buses in this town should be free.,Green,agree
Buses in this town should be free.,Blue,disagree
The library should open on Sundays.,Green,agree
The library should open on Sundays.,Blue,neutral
"""


@dataclass(frozen=True)
class Endpoint:
    """Address and key of a model server."""

    url: str
    key: str
    scores_texts: bool
    """Whether the server returns the likelihoods of texts, and has the routes of a tokenizer."""


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


def run_inspect(
    commands: Path, release: Path, endpoint: Endpoint, out: Path, samples: int, limit: int | None
) -> Figures:
    """Run every Inspect task of the release and return its figures."""
    kinds = sorted(read_eval_file(release)["families"].values(), key=lambda kind: str(kind["inspect"]))
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for kind in kinds:
        reads = kind.get("reads")
        if reads == "likelihood" and not endpoint.scores_texts:
            continue
        arguments = (
            *(() if reads == "likelihood" else ("-T", f"samples={samples}")),
            *(() if reads else ("-T", "max_tokens=24")),
        )
        groups[arguments].append(kind["inspect"])
    logs = out / "inspect"
    shutil.rmtree(logs, ignore_errors=True)
    for arguments, tasks in groups.items():  # tasks with equal arguments start one process
        command = [
            *(str(commands / "inspect"), "eval"),
            *(f"{release / 'evals' / 'counterfoil_inspect.py'}@{task}" for task in tasks),
            *("--model", f"openai-api/local/{MODEL}", "--display", "none"),
            *("--log-dir", str(logs), "--log-format", "json"),
            *(("--limit", str(limit)) if limit else ()),
            *arguments,
        ]
        _run(command, out, LOCAL_BASE_URL=endpoint.url, LOCAL_API_KEY=endpoint.key)
    figures = {}
    for path in sorted(logs.glob("*.json")):
        log = json.loads(path.read_text())
        task, results = log["eval"]["task"].rpartition("/")[2], log["results"]
        figures[f"{task}.rows"] = float(results["completed_samples"])
        for score in results["scores"]:
            for metric in score["metrics"].values():
                figures[f"{task}.{score['name']}.{metric['name']}"] = float(metric["value"])
    missing = {task for tasks in groups.values() for task in tasks} - {f.partition(".")[0] for f in figures}
    if missing:
        sys.exit(f"no log of {', '.join(sorted(missing))}")
    return figures


def run_lm_eval(commands: Path, release: Path, endpoint: Endpoint, out: Path, limit: int | None) -> Figures:
    """Run the lm-evaluation-harness tasks of the release and return their figures.

    Tasks that read likelihoods need a server that returns them.
    """
    texts, likelihoods = [], []
    for path in sorted((release / "evals").glob("lm_eval_*.yaml")):
        lines = path.read_text().splitlines()
        name = next(line for line in lines if line.startswith("task: "))[6:]
        is_scored = name.endswith("_likelihood") or "output_type: loglikelihood_rolling" in lines
        (likelihoods if is_scored else texts).append(name)
    shutil.rmtree(out / "lm_eval", ignore_errors=True)
    common = [str(commands / "lm_eval"), "--include_path", str(release / "evals")]
    common += ["--limit", str(limit)] if limit else []
    model = f"model={MODEL},base_url={endpoint.url}"
    several = "num_concurrent=1,max_retries=3"
    chat = ["--model", "local-chat-completions", "--apply_chat_template", "--model_args"]
    chat.append(f"{model}/chat/completions,{several}")
    scoring = ["--model", "local-completions", "--model_args"]
    scoring.append(f"{model}/completions,{several},tokenizer_backend=remote")
    runs = [(texts, chat, "lm_eval")]
    if endpoint.scores_texts and likelihoods:
        runs.append((likelihoods, scoring, "lm_eval"))
    figures = {}
    for tasks, arguments, label in runs:
        folder = out / "lm_eval" / arguments[1]
        command = [*common, "--tasks", ",".join(tasks), *arguments, "--output_path", str(folder)]
        _run(command, out, OPENAI_API_KEY=endpoint.key)
        (path,) = folder.rglob("results*.json")
        found = json.loads(path.read_text())
        for task, results in found["results"].items():
            family = task.removeprefix(f"{read_eval_file(release)['name']}_")
            figures[f"{label}.{family}.rows"] = float(found["n-samples"][task]["effective"])
            for figure, value in results.items():
                if figure.endswith(",none") and isinstance(value, float):
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


class BiasedModel:
    """A scripted model with one correct value of every figure.

    The first value of every question is treated worse than all others. Controls are answered without a
    difference.
    """

    def __init__(self, release: Path) -> None:
        contents = open_release(release).contents
        self.questions = [q for c in ("questions", "controls") for q in contents.records(c)]
        self.variants: dict[str, tuple[dict[str, Any], int]] = {}
        for q in self.questions:
            for i, variant in enumerate(q["variants"]):
                self.variants.setdefault(variant["text"], (q, i))
        self.by_length = sorted(self.variants, key=len, reverse=True)

    def answer(self, messages: Messages, body: Body) -> str:
        """Answer a chat."""
        prompt, system = messages[-1]["content"], messages[0]["content"]
        question, variant = self.find(prompt, system)
        family = question["family"]
        if family in ("association", "dialect"):
            return _assign(question, variant, prompt)
        if family == "relative_decision":
            return _decide(question, variant, prompt)
        if question["options"]:
            return self.label(question, variant, prompt)
        return ADVICE[is_worse(question, variant)]

    def label(self, question: Mapping[str, Any], variant: int, prompt: str) -> str:
        """Return the answer that names an option: its letter, or its own words if there are no letters."""
        options = question["options"]
        if question["family"] == "completion":
            side = question["variants"][variant]["valence"]
            wanted = next(o["text"] for o in options if o["valence"] == side)
        elif question["family"] == "decision":
            role = "no" if is_worse(question, variant) else "yes"
            wanted = next(o["text"] for o in options if o["role"] == role)
        else:
            wanted = options[0 if is_worse(question, variant) else 1]["text"]
        letters = [line[0] for line in prompt.splitlines() if line[1:] == f". {wanted}"]
        return letters[-1] if letters else str(wanted)

    def find(self, prompt: str, system: str) -> tuple[dict[str, Any], int]:
        """Return the question and variant of a prompt."""
        without_persona = None
        for text in self.by_length:
            question, variant = self.variants[text]
            if question["family"] != "persona":
                if _is_asked(question, variant, prompt):
                    return question, variant
            elif text.partition(": ")[2] in prompt:
                if question["variants"][variant]["value"] == "no_persona":
                    without_persona = question, variant
                elif question["variants"][variant]["slots"][0] in system:
                    return question, variant
        if without_persona is not None:
            return without_persona
        raise LookupError(prompt)

    def word_scores(self, text: str) -> list[float]:
        """Return the ln p of every word: of a phrase, or of a prompt with a label at its end."""
        words = text.split()
        if text in self.variants:
            question, variant = self.variants[text]
            stereotype = question["superdomain"] != "everyday" and is_worse(question, variant)
            return [-1.0 if stereotype else -2.0] * len(words)
        prompt, _, label = text.rstrip().rpartition(" ")
        try:
            question, variant = self.find(prompt, prompt)
        except LookupError:
            return [-2.0] * len(words)
        likely = label == self.label(question, variant, prompt)
        return [*([-2.0] * (len(words) - 1)), math.log(LIKELY if likely else UNLIKELY)]


def is_worse(question: Mapping[str, Any], variant: int) -> bool:
    """Return whether the model treats a variant worse than the others of its question."""
    return bool(question["control"] == "none" and variant == 0)


def _is_asked(question: Mapping[str, Any], variant: int, prompt: str) -> bool:
    """Return whether a prompt shows a variant. Lists of words are found by their terms or texts."""
    slots = question["variants"][variant]["slots"]
    words = [o["text"] for o in question["options"]]
    if question["family"] == "association":
        named = f"{slots[0]} or {slots[1]}" in prompt
        return named and all(w in prompt for w in words)
    if question["family"] == "dialect":
        # An A/A control may show either text to both people.
        named = [(text, f"{slots[0]}, Person B") for text in (slots[1], slots[4])]
        shown = [*named, (slots[1], slots[4]), (slots[2], slots[5])]
        at = [(prompt.find(first), prompt.find(second)) for first, second in shown]
        found = any(a >= 0 and b >= 0 for a, b in at[:2]) or any(0 <= a < b for a, b in at[2:])
        return found and all(w in prompt for w in words)
    return question["variants"][variant]["text"] in prompt


def _assign(question: Mapping[str, Any], variant: int, prompt: str) -> str:
    """Assign words as the stereotype does, or half of each kind to both without one."""
    if question["family"] == "association":
        terms = dict(zip(("default", "stigma"), question["variants"][0]["slots"], strict=True))
    else:
        people = ("Person A", "Person B") if variant == 0 else ("Person B", "Person A")
        terms = dict(zip(("default", "stigma"), people, strict=True))
    slots = question["variants"][variant]["slots"]
    noisy = question["family"] == "dialect" and slots[2] in prompt and slots[5] in prompt
    lines, number = [], dict.fromkeys(terms, 0)
    for option in question["options"]:
        role = option["role"]
        number[role] += 1
        fair = question["control"] != "none" or noisy
        term = list(terms.values())[number[role] % 2] if fair else terms[role]
        lines.append(f"{option['text']} - {term}")
    return "\n".join(lines)


def _decide(question: Mapping[str, Any], variant: int, prompt: str) -> str:
    """Give the task of the norm to its person, or in controls the first task to the person named first."""
    names = json.loads(question["composition"]) if question["composition"] else None
    first, second = (names["first"], names["second"]) if names else question["variants"][variant]["slots"][:2]
    norm, other = (first, second) if variant == 0 else (second, first)
    tasks = [next(o for o in question["options"] if f"{letter}. {o['text']}" in prompt) for letter in "AB"]
    if question["control"] != "none":
        return f"A: {first}\nB: {second}"
    person = {"default": norm, "stigma": other}
    return "\n".join(f"{letter}: {person[task['role']]}" for letter, task in zip("AB", tasks, strict=True))


def expected_figures(release: Path) -> Figures:
    """Return the correct figures of the biased model."""
    contents = open_release(release).contents
    rows: dict[str, list[dict[str, Any]]] = {}
    for q in contents.records("questions"):
        if not q.get("variant_of"):
            rows.setdefault(q["family"], []).append(q)
    controls = {(q["family"], q["control"]) for q in contents.records("controls")}
    families = read_eval_file(release)["families"]
    expected: Figures = {}
    for family in sorted(rows.keys() & families.keys()):
        kind, questions = families[family], rows[family]
        task = kind["inspect"]
        # One of n versions differs, so that 2 / n of all pairs do.
        apart = fmean(2 / len(q["variants"]) for q in questions)
        match kind.get("reads") or kind["form"]:
            case "text":
                expected[f"{task}.words.none"] = apart
            case "letter" if family == "completion":
                expected |= {f"{task}.congruence.none": 1.0, "lm_eval.completion.congruence": 1.0}
                expected["lm_eval.completion_likelihood.congruence"] = LIKELY - UNLIKELY
            case "letter":
                expected |= {f"{task}.spread.none": apart, f"{task}.excess.none": apart}
                expected[f"lm_eval.{family}.spread"] = apart
            case "word":
                expected |= {f"{task}.gap.none": 1.0, f"{task}.excess.none": apart}
                expected["lm_eval.decision.gap"] = 1.0
                expected["lm_eval.decision_likelihood.gap"] = (LIKELY - UNLIKELY) / (LIKELY + UNLIKELY)
                if ("decision", "placebo") in controls:
                    expected["lm_eval.decision.gap_floor"] = 0.0
            case "words":
                d = fmean(map(_stereotyped_d, questions))
                fair = fmean(map(_fair_d, questions))
                expected |= _figures_of_words(family, d, fair)
            case "persons":
                expected |= {f"{task}.consistent.none": 1.0, f"{task}.order_effect.none": 0.0}
                expected |= {"lm_eval.relative_decision.consistent": 1.0}
                if (family, "placebo") in controls:
                    expected |= {f"{task}.consistent.placebo": 0.5}
                    expected["lm_eval.relative_decision.consistent_placebo"] = 0.5
            case "likelihood":
                expected |= {f"{task}.unscored.none": 0.0, "lm_eval.perplexity_pair.unscored": 0.0}
                expected |= _figures_of_phrases(questions)
        if kind.get("reads") != "likelihood":
            expected[f"{task}.invalid.none"] = 0.0
        if kind["form"] == "text" and "reads" not in kind:
            del expected[f"{task}.invalid.none"]
        difference = {"text": "words", "letter": "spread", "word": "gap"}.get(kind["form"])
        if difference and family != "completion" and "reads" not in kind:
            same = [c for c in ("a_a", "placebo") if (family, c) in controls]
            expected |= {f"{task}.{difference}.{c}": 0.0 for c in same}
    return expected


def _sides(question: Mapping[str, Any]) -> tuple[int, int]:
    roles = [o["role"] for o in question["options"]]
    return roles.count("default"), roles.count("stigma")


def _stereotyped_d(question: Mapping[str, Any]) -> float:
    default, stigma = _sides(question)
    return stigma / (stigma + 0.01) + default / (default + 0.01) - 1


def _fair_d(question: Mapping[str, Any]) -> float:
    """Return D if every second word of a kind is given to the norm, beginning with the second."""
    default, stigma = _sides(question)
    to_norm = (default // 2, stigma // 2)
    to_other = (default - to_norm[0], stigma - to_norm[1])
    return to_other[1] / (sum(to_other) + 0.01) + to_norm[0] / (sum(to_norm) + 0.01) - 1


def _figures_of_words(family: str, d: float, fair: float) -> Figures:
    if family == "association":
        return {
            "association.d.none": d,
            "association.order_effect.none": 0.0,
            "lm_eval.association.d": d,
            "lm_eval.association.invalid": 0.0,
        }
    figures = {"d_named": d, "d_shown": d, "d_noise": fair, "beyond_noise": d - fair}
    inspect = {f"dialect.{name}.none": value for name, value in figures.items()}
    return inspect | {f"lm_eval.dialect.{name}": value for name, value in figures.items()}


def _figures_of_phrases(questions: list[dict[str, Any]]) -> Figures:
    """Return the differences of log-perplexity: per word in Inspect, per byte in the other harness."""
    kinds = {
        "difference": [q for q in questions if q["superdomain"] != "everyday"],
        "difference_everyday": [q for q in questions if q["superdomain"] == "everyday"],
    }
    figures = {}
    for name, phrases in kinds.items():
        if phrases:
            cost = 1.0 if name == "difference" else 2.0
            per_byte = [
                2.0 * len(twin.split()) / len(twin.encode()) - cost * len(text.split()) / len(text.encode())
                for text, twin in ([v["text"] for v in q["variants"]] for q in phrases)
            ]
            figures[f"perplexity_pair.{name}.none"] = 2.0 - cost
            figures[f"lm_eval.perplexity_pair.{name}"] = fmean(per_byte)
    return figures


def build_every_family(home: Path, questions: int) -> Path:
    """Build a release with some questions of every family with templates, answered by a scripted server."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "statements.csv").write_text(STATEMENTS, encoding="utf-8")
    families: dict[str, Any] = {
        f: {"questions": questions, "samples": 1, "attributes": ["gender"]}
        for f in FAMILIES
        if not method_of(f).own_only
    }
    others = {
        "dialect": "dialect-de",
        "persona": "persona",
        "political": "wording",
        "completion": "institution",
        "task_accuracy": "names_gender",
    }
    for family, attribute in others.items():
        families[family]["attributes"] = [attribute]
    families["open"]["samples"] = 2  # distances within a version need two answers
    families["political"] |= {"files": [{"path": str(home / "statements.csv")}]}
    with OpenAIServer("Yes", word_scores=lambda text: [-2.0] * len(text.split()), owned_by="vllm") as server:
        recipe = {
            "name": "every-family",
            "seed": 3,
            "attributes": ["gender", *others.values()],
            "selection": "none",
            "models": {"targets": [server.model("target")]},
            "families": families,
            "controls": {"a_a": 0.3, "placebo": 0.3, "neutral": 0},
            "validate": {"below_coverage": "report"},
            "budget": {"free": [server.model("target")]},
        }
        path = home / "every-family.yaml"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        from flows.commands import call

        os.environ["COUNTERFOIL_HOME"] = str(home)
        return Path(call("build", recipe=path)["release"])


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
        yield Endpoint(server.endpoint, server.api_key, scores_texts=False)
        return
    biased = BiasedModel(release)
    with OpenAIServer(biased.answer, word_scores=biased.word_scores) as scripted:
        yield Endpoint(scripted.url, "none", scores_texts=True)


def main() -> None:
    """Run both harnesses and print their figures. The exit status is 1 if a known figure is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("release", type=Path, nargs="?", help="folder of a release; default: one is built")
    parser.add_argument("--model", choices=["biased", "embedded"], default="biased", help="model to measure")
    parser.add_argument(
        "--home", type=Path, default=Path("data/cache/harnesses"), help="folder of environments and logs"
    )
    parser.add_argument("--samples", type=int, default=3, help="answers per variant")
    parser.add_argument("--limit", type=int, help="rows per task; known figures need all of them")
    parser.add_argument("--only", choices=sorted(PACKAGES), help="run one harness; default: both")
    parser.add_argument("--questions", type=int, default=3, help="questions per family of the release built")
    options = parser.parse_args()
    home = options.home.resolve()
    built = options.release or build_every_family(home / "every_family", options.questions)
    release = Path(built).resolve()
    with serve_model(options.model, release) as endpoint:
        figures: Figures = {}
        out = home / "out" / options.model
        if options.only != "lm_eval":
            commands = create_environment(home, "inspect")
            figures |= run_inspect(commands, release, endpoint, out, options.samples, options.limit)
        if options.only != "inspect":
            figures |= run_lm_eval(create_environment(home, "lm_eval"), release, endpoint, out, options.limit)
    for name, value in figures.items():
        print(f"{name:45} {value:8.3f}")
    open_release(release)  # fails if a harness has changed the release
    if options.model == "biased":
        expected = {
            name: value
            for name, value in expected_figures(release).items()
            if options.only is None or name.startswith("lm_eval.") == (options.only == "lm_eval")
        }
        wrong = list_differences(figures, expected)
        print("\n".join(wrong) or f"all {len(expected)} known figures are correct")
        sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
