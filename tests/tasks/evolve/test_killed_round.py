"""A round that is killed at any call never pays twice (with a real process)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

from tasks.evolve import mutate
from tasks.run.store import RunContext, TableRef
from tests.conftest import PROJECT
from tests.servers.openai_server import Answer, Body, Messages, OpenAIServer
from tests.tasks.evolve.writing_server import (
    all_fluent,
    archive_of,
    judged_seeds,
    proposed_domain,
    proposed_superdomain,
    requested_type,
    written,
)

MakeContext = Callable[..., RunContext]
BETWEEN = ("WrittenQuestion", "ReadVersions")
"""Calls to kill at: the first call that writes, and the first call that reads."""
CHILD = """
import sys
from tasks.evolve import mutate
from tasks.run.store import RunContext, TableRef
context, archive = sys.stdin.read().splitlines()
mutate(RunContext.model_validate_json(context), TableRef.model_validate_json(archive), 1)
"""


class Killer:
    """Answers by content, but kills the client at the first call of a given kind."""

    def __init__(self) -> None:
        self.kind = ""
        self.child: subprocess.Popen[str] | None = None
        self.answered: list[str] = []

    def __call__(self, messages: Messages, body: Body) -> Answer:
        kind = requested_type(body)
        if self.child is not None and kind == self.kind:
            os.kill(self.child.pid, signal.SIGKILL)
            return "too late"
        self.answered.append(json.dumps(body, sort_keys=True))
        if kind == "ReadVersions":
            return all_fluent(messages)
        made = {"ProposedDomain": proposed_domain, "ProposedSuperdomain": proposed_superdomain}
        return made.get(kind, written)(body["seed"])

    def kill_at(self, kind: str, context: RunContext, archive: TableRef) -> int:
        """Run the round in a separate process until the first call of a kind. Return its exit status."""
        self.kind = kind
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        arguments = f"{context.model_dump_json(by_alias=True)}\n{archive.model_dump_json()}\n"
        self.child.communicate(arguments, timeout=60)
        status, self.child = self.child.returncode, None
        return status


def test_round_killed_between_its_kinds_of_calls_pays_for_nothing_twice(make_context: MakeContext) -> None:
    killer = Killer()
    with OpenAIServer(killer) as server:
        writer, judge = server.model("writer"), server.model("judge")
        context = make_context(
            models={"generator": writer, "targets": ["embedded:smollm2-135m"], "judges": [judge]},
            budget={"free": [writer, judge]},
            evolve={"rounds": 1, "questions_per_round": 10},
            limits={"max_in_flight": 1, "attempts": 1},
        )
        archive = archive_of(context, judged_seeds(context))
        statuses = [killer.kill_at(kind, context, archive) for kind in BETWEEN]
        resumed = mutate(context, archive, 1)
        paid = len(killer.answered)
        again = mutate(context, archive, 1)
    assert statuses == [-signal.SIGKILL] * len(BETWEEN)
    assert {requested_type(json.loads(body)) for body in killer.answered} > {*BETWEEN, "ProposedDomain"}
    assert paid == len(set(killer.answered)) == len(killer.answered) == sum(c.calls for c in resumed.costs)
    assert again == resumed
