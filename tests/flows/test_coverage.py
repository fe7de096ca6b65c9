"""Failing models: a build stops with exit code 5 and the message of the server, or measures less and reports
it. Every role and fault is tried through the command, against a real server."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.test_build import scripted, start
from tests.servers.openai_server import Body, Fault, Messages, OpenAIServer, message, status

ROLES = ("target", "generator", "judge", "adjudicator", "relabel judge")
WORKING = {"refused schema", "refused system role"}
"""Faults that the client works around."""
QUICK = {
    ("target", "empty"), ("generator", "404"), ("judge", "truncated"), ("adjudicator", "empty"),
    ("relabel judge", "402"),
}  # fmt: skip


def fault_named(name: str, number: int, body: Body) -> Fault | None:
    """Return the fault of a request to the failing model, by the number of its own calls.

    The order of arrival of all models depends on the load of the machine, so it decides nothing.
    """
    if name == "404":
        return status(404, message="the model `gone` does not exist")
    if name == "402":
        return status(402, message="insufficient credit, please top up")
    if name == "empty":
        return message(content="")
    if name == "reasoning only":
        return message(content="", reasoning_content="Let me think about this first.")
    if name == "truncated":
        return message(content='{"bias": {"reas', finish_reason="length")
    if name == "refused schema":
        wants = "response_format" in body
        return (
            status(400, message="response_format is not supported", param="response_format")
            if wants
            else None
        )
    if name == "refused system role":
        systems = any(m["role"] == "system" for m in body["messages"])
        return status(400, message="System role not supported") if systems else None
    assert name == "30 % failing"
    return status(500) if random.Random(f"{number}").random() < 0.3 else None


FAULTS = (
    "404", "402", "empty", "reasoning only", "truncated", "refused schema", "refused system role",
    "30 % failing",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A build that ended."""

    code: int
    screen: str
    calls: Counter[str]
    """Number of calls by model."""
    release: Path | None


def obedient(messages: Messages, body: Body) -> Any:
    """Answer as `scripted`, also if the schema is in the prompt because the server refuses it elsewhere."""
    text = messages[-1]["content"]
    if "response_format" not in body:
        for found in re.finditer(r'\{"', text):
            try:
                schema, _ = json.JSONDecoder().raw_decode(text, found.start())
            except ValueError:
                continue
            if isinstance(schema, dict) and "properties" in schema:
                return scripted(messages, body | {"response_format": {"json_schema": {"schema": schema}}})
    return scripted(messages, body)


def build_with(
    folder: Path,
    answer: Callable[[Messages, Body], Any] = obedient,
    faults: Callable[[int, Body], Fault | None] = lambda number, body: None,
    **changes: Any,
) -> Ended:
    """Build a small recipe with all roles on one server."""
    with OpenAIServer(answer, faults=faults) as server:
        names = ("target", "generator", "judge", "second", "adjudicator", "relabel judge")
        models = {name: server.model(name.replace(" ", "-")) for name in names}
        recipe = {
            "name": "covered",
            "seed": 3,
            "attributes": ["gender"],
            "superdomains": ["work"],
            "models": {
                "generator": models["generator"],
                "targets": [models["target"]],
                "judges": [models["judge"], models["second"]],
                "adjudicator": models["adjudicator"],
                "relabel_judges": [models["relabel judge"]],
            },
            "families": {
                "open": {"questions": 6, "samples": 2, "max_tokens": 30},
                "completion": {"questions": 3, "samples": 1, "attributes": ["beauty"]},
            },
            "evolve": {"rounds": 1, "questions_per_round": 4, "save_threshold": 0.05, "fluency": "rules"},
            "holdout": {"samples": 2},
            "relabel": {"candidates": 3},
            "budget": {"free": list(models.values())},
            "limits": {"max_in_flight": 8, "attempts": 1, "timeout_s": 60},
            **changes,
        }
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        process = start(folder / "home", "build", path, "--json")
        said, told = process.communicate(timeout=600)
        calls = Counter(r.body["model"] for r in server.requests)
    release = Path(json.loads(said)["release"]) if process.returncode == 0 else None
    return Ended(process.returncode, f"{said}\n{told}", calls, release)


def build_with_fault(folder: Path, role: str, fault: str) -> Ended:
    """Build with one role that fails after its first call, which is the check before the build."""
    failing, calls = role.replace(" ", "-"), Counter[str]()

    def strike(number: int, body: Body) -> Fault | None:
        calls[body["model"]] += 1
        fails = body["model"] == failing and calls[failing] > 1
        return fault_named(fault, calls[failing], body) if fails else None

    return build_with(folder, faults=strike)


def cases() -> Iterator[Any]:
    for role in ROLES:
        for fault in FAULTS:
            slow = () if (role, fault) in QUICK else (pytest.mark.slow,)
            yield pytest.param(role, fault, marks=slow, id=f"{role}-{fault}")


@pytest.mark.parametrize(("role", "fault"), cases())
def test_a_broken_model_stops_the_build_and_an_adaptable_one_does_not(
    tmp_path: Path, role: str, fault: str
) -> None:
    ended = build_with_fault(tmp_path, role, fault)
    assert ended.calls[role.replace(" ", "-")] > 1, "the role was never asked, so this says nothing"
    if fault in WORKING:
        assert ended.code == 0, ended.screen[-2000:]
        return
    assert ended.code == 5, ended.screen[-2000:]
    assert "Traceback" not in ended.screen
    words = {
        "404": "does not exist", "402": "insufficient credit", "empty": "is empty",
        "reasoning only": "reasoning",
    }  # fmt: skip
    assert words.get(fault, "") in ended.screen


if __name__ == "__main__":
    import sys
    import tempfile

    for role in ROLES:
        for fault in FAULTS:
            if len(sys.argv) > 1 and not any(w in f"{role}-{fault}" for w in sys.argv[1:]):
                continue
            with tempfile.TemporaryDirectory() as folder:
                ended = build_with_fault(Path(folder), role, fault)
                lines = re.sub(r"http://\S+", "URL", ended.screen).strip().splitlines()
                print(f"## {role} | {fault} | exit {ended.code} | {dict(ended.calls)}")
                print("   " + "\n   ".join(x.strip() for x in lines[-6:] if x.strip())[:900], flush=True)
