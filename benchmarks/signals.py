"""Stop commands with signals at five moments, and list everything that remains.

    python benchmarks/signals.py [--only build|relabel|serve] [--moment MOMENT] [--json]

A scripted server on this computer answers after 100 ms. `build` and `relabel` get TERM, HUP, INT and KILL
while they import, at their first request, in the middle, near the end, and while the result is written.
`serve` gets them while it imports, while its Prefect server starts, and when it is ready. Every stopped
`build` and `relabel` runs again and must end well. The exit code is 1 if a process or a claim remains, a
traceback is shown, or a second run fails. KILL may leave claims, which end by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.flows.test_build import scripted, start, write_recipe
from tests.flows.test_schedule import ask, free_port, start_serving
from tests.flows.test_signals import CODES, claims
from tests.servers.openai_server import OpenAIServer

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL)
IMPORT_S = 0.25
LONGEST_WAIT_S = 120.0
MOMENTS = {"importing": 0.0, "first request": 0.0, "middle": 0.4, "near the end": 0.85, "writing": 1.0}
"""Moments of `build` and `relabel`, as shares of all requests."""
SMALL: dict[str, Any] = {"evolve": {"rounds": 0}, "relabel": {}, "families": {"decision": {"questions": 3}}}
Start = Callable[[Path], subprocess.Popen[str]]


def processes_of(home: Path) -> list[int]:
    """Return the processes that have this home in their environment."""
    found = []
    for place in Path("/proc").iterdir():
        with suppress(OSError):
            if (
                place.name.isdigit()
                and f"COUNTERFOIL_HOME={home}\0".encode() in (place / "environ").read_bytes()
            ):
                found.append(int(place.name))
    return found


def stop(process: subprocess.Popen[str], number: signal.Signals, home: Path) -> dict[str, Any]:
    """Send a signal, wait for the end, and describe the state that remains."""
    begun = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=LONGEST_WAIT_S)
    while processes_of(home) and time.monotonic() < begun + 10:
        time.sleep(0.05)
    remaining = claims(home) if (home / "cache" / "answers.sqlite").exists() else 0
    return {
        "exit_code": process.returncode,
        "seconds": round(time.monotonic() - begun, 1),
        "processes": len(processes_of(home)),
        "claims": remaining,
        "traceback": "Traceback" in err,
    }


def wait_until(reached: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Wait until a moment is reached, or the process has ended."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            if reached():
                return
        time.sleep(0.01)


def stop_and_run_again(
    name: str, begin: Start, base: Path, server: OpenAIServer, only: str | None
) -> Iterator[dict[str, Any]]:
    """Stop a command at every moment, or only one, with every signal, and run it again."""
    before = len(server.requests)
    whole = begin(base / "whole")
    _, err = whole.communicate(timeout=600)
    assert whole.returncode == 0, err
    requests = len(server.requests) - before
    for moment, share in MOMENTS.items():
        if only not in (None, moment):
            continue
        for number in SIGNALS:
            home = base / f"{moment}-{number.name}".replace(" ", "-")
            sent = len(server.requests)
            process = begin(home)
            if moment == "importing":
                time.sleep(IMPORT_S)
            else:
                needed = sent + max(1, int(share * requests))
                wait_until(lambda needed=needed: len(server.requests) >= needed, process)
            row = stop(process, number, home)
            again = begin(home)
            _, err = again.communicate(timeout=600)
            total = len(server.requests) - sent
            yield {
                "command": name,
                "moment": moment,
                "signal": number.name,
                **row,
                "again": again.returncode,
                "requests_twice": max(0, total - requests),
                "error": err[-500:] if again.returncode else "",
            }


def stop_serve(base: Path) -> Iterator[dict[str, Any]]:
    """Stop `serve` while it imports, while its server starts, and when it is ready."""
    for moment in ("importing", "starting", "ready"):
        for number in SIGNALS:
            home, port = base / f"serve-{moment}-{number.name}", free_port()
            home.mkdir()
            process = start_serving(home, port, "refresh", None)
            if moment == "importing":
                time.sleep(IMPORT_S)
            elif moment == "starting":
                wait_until(lambda home=home: len(processes_of(home)) > 1, process)
            else:
                api = f"http://127.0.0.1:{port}/api"
                wait_until(lambda api=api: ask(api, "deployments/filter", {}), process)
            yield {
                "command": "serve",
                "moment": moment,
                "signal": number.name,
                **stop(process, number, home),
                "again": None,
                "requests_twice": 0,
                "error": "",
            }


def rows(base: Path, only: str | None, moment: str | None) -> Iterator[dict[str, Any]]:
    """Yield one row per command, moment and signal."""
    with OpenAIServer(scripted, latency_s=0.1) as server:
        recipe = write_recipe(base / "small.yaml", server, **SMALL)
        judge = server.model("judge")
        data = PROJECT / "data/examples/retrieval.jsonl"
        options = ("--format", "flagembedding", "--judge", judge, "--free", judge, "--max-in-flight", "4")

        def build(home: Path) -> subprocess.Popen[str]:
            return start(home, "build", recipe)

        def relabel(home: Path) -> subprocess.Popen[str]:
            home.mkdir(exist_ok=True)
            return start(home, "relabel", data, *options, "--out", home / "out.jsonl")

        for name, begin in (("build", build), ("relabel", relabel)):
            if only in (None, name):
                (base / name).mkdir()
                yield from stop_and_run_again(name, begin, base / name, server, moment)
    if only == "serve" or (only is None and moment is None):
        yield from stop_serve(base)


def is_clean(row: dict[str, Any]) -> bool:
    """Return whether a command stopped as it should."""
    number = signal.Signals[row["signal"]]
    codes = {CODES[number], -number} if row["moment"] == "importing" else {CODES[number], 0}
    claims_left = 0 if number == signal.SIGKILL else row["claims"]
    return (
        not (row["processes"] or claims_left or row["traceback"] or row["again"])
        and row["exit_code"] in codes
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=("build", "relabel", "serve"))
    parser.add_argument("--moment", choices=MOMENTS, help="of `build` and `relabel`; default: each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "none")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # children inherit what `nohup` sets
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), options.only, options.moment):
            found.append(row | {"clean": is_clean(row)})
            if not options.json:
                print(*(f"{key}={value}" for key, value in found[-1].items()), flush=True)
    if options.json:
        print(json.dumps({"stops": found}))
    sys.exit(not all(row["clean"] for row in found))


if __name__ == "__main__":
    main()
