"""Ask a real server in every role of a model: target, judge, generator, judge of `relabel`.

    python benchmarks/server_roles.py [MODEL] [--only ROLE] [--max-tokens 900] [--threads 1] [--json]

MODEL is the name of a model in a recipe, such as `openai:qwen@http://127.0.0.1:8000/v1`. Without it,
llama.cpp's own HTTP server is started with the weights of the extra `embedded`. Its threads wait busily for
each other, so on a machine with other work it answers faster with fewer threads than cores. Two more rows
check the server (`counterfoil models --probe`) and score texts (`perplexity_pair`).

Every role runs one stage: 72 questions with options, 3 groups of answers to judge, 3 questions to write,
3 candidates to grade. Unusable answers are counted and stop nothing (`validate.min_judged: 0`), so that each
row has its number of usable answers. The exit code is 0 if each role ended without a traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.tasks.models.server_roles import ROLES, Ended, run_role

ROWS = (*ROLES, "check", "scored texts")
TOLERANT = {"min_judged": 0.0, "max_failure_rate": 1.0, "min_coverage": 0.0}
LIMITS = {"max_in_flight": 2, "timeout_s": 300, "attempts": 2}


@contextmanager
def llama_server(threads: int) -> Iterator[str]:
    """Start llama.cpp's HTTP server and return the name of its model."""
    import xllamacpp

    from tasks.models.embedded import find_weights

    settings = xllamacpp.CommonParams()
    settings.model.path = str(find_weights("smollm2-135m"))
    settings.model_alias = {"smollm2"}
    settings.port = 0
    settings.n_ctx = 8192
    settings.verbosity = 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(settings)
    yield f"openai:smollm2@{server.listening_address}/v1"
    del server


def play(model: str, only: str | None, max_tokens: int) -> Iterator[dict[str, Any]]:
    """Run every role, and yield one row for each."""
    judging = {"max_tokens": max_tokens}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COUNTERFOIL_HOME"] = str(Path(folder) / "home")
        recipe = Path(folder) / "pairs.yaml"
        recipe.write_text(json.dumps(score_recipe(model)), encoding="utf-8")
        commands = {"check": ["models", model, "--probe"], "scored texts": ["build", str(recipe)]}
        for role in ROWS if only is None else (only,):
            if role in commands:
                yield run_command(role, commands[role])
                continue
            begun = time.monotonic()
            place = Path(folder) / role
            ended = run_role(role, model, place, validate=TOLERANT, limits=LIMITS, judging=judging)
            yield describe(ended, time.monotonic() - begun)


def describe(ended: Ended, seconds: float) -> dict[str, Any]:
    """Return the row of a role."""
    row = asdict(ended)
    del row["case"]
    return row | {"seconds": round(seconds, 1)}


def score_recipe(model: str) -> dict[str, Any]:
    """Return a recipe whose answers are probabilities of given texts."""
    return {
        "name": "scored-texts",
        "seed": 3,
        "attributes": ["gender"],
        "families": {"perplexity_pair": {"questions": 12}},
        "controls": {"a_a": 0, "placebo": 0},
        "models": {"targets": [model]},
        "budget": {"free": [model]},
        "validate": TOLERANT,
    }


def run_command(role: str, arguments: list[str]) -> dict[str, Any]:
    """Run a command and return its row."""
    begun = time.monotonic()
    counterfoil = Path(sys.executable).with_name("counterfoil")
    done = subprocess.run([counterfoil, *arguments, "--json"], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else {}
    counts = found.get("counts", {}).get("respond_holdout") or found.get("counts", {}).get("respond") or {}
    return {
        "role": role,
        "outcome": "answered" if done.returncode == 0 else "stopped",
        "exit_code": done.returncode,
        "message": " ".join(done.stderr.split())[:400] if done.returncode else "",
        "requests": found.get("calls", {}).get("sent", 0),
        "counts": {"answered": counts["kept"], "failed": counts["failed"]} if counts else {},
        "seconds": round(time.monotonic() - begun, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?")
    parser.add_argument("--only", choices=ROWS)
    parser.add_argument("--max-tokens", type=int, default=900, help="length limit of a verdict")
    parser.add_argument("--threads", type=int, default=1, help="of the server of llama.cpp")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "none")
    if options.model is None:
        with llama_server(options.threads) as model:
            rows = list(show(model, options))
    else:
        rows = list(show(options.model, options))
    if options.json:
        print(json.dumps({"roles": rows}))
    sys.exit(any("Traceback" in row["message"] or row["exit_code"] not in (0, 5) for row in rows))


def show(model: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows, and print each as soon as it is known."""
    for row in play(model, options.only, options.max_tokens):
        if not options.json:
            counts = ", ".join(f"{count} {name}" for name, count in row["counts"].items())
            start = f"{row['role']:14} {row['outcome']:22} exit {row['exit_code']}  {counts or '-':34}"
            spent = f"{row['requests']:4} calls {row['seconds']:7.1f} s"
            print(f"{start} {spent}  {row['message'][:300]}", flush=True)
        yield row


if __name__ == "__main__":
    main()
