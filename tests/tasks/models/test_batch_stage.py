"""A stage is killed while it waits for a batch, and the next process collects the batch."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.answers import RESPONSES
from schemas.question import QUESTIONS
from tasks.estimate import estimate
from tasks.expand import expand_family
from tasks.models.budget import spent_in
from tasks.respond import STAGE
from tasks.run.store import Outcome, RunContext, TableRef, read_table, run_stage, write_step
from tests.conftest import DATA, PROJECT, recipe_of
from tests.servers.batch_routes import BatchRoutes
from tests.servers.openai_server import OpenAIServer, Reply

MakeContext = Callable[..., RunContext]
STAGE_IN_A_PROCESS = """
import sys
from tasks.respond import STAGE
from tasks.run.store import RunContext, TableRef, run_stage
context, questions = RunContext.model_validate_json(sys.argv[1]), TableRef.model_validate_json(sys.argv[2])
run_stage(STAGE, context, questions=questions, phase="search")
"""


def test_killed_between_handing_over_and_collecting_nothing_is_asked_or_paid_twice(
    make_context: MakeContext,
) -> None:
    routes = BatchRoutes()
    routes.held.set()
    with OpenAIServer(Reply("Talk to them first.", usage=(100, 10)), batches=routes) as server:
        model = f"openai:gpt-5-mini@{server.url}"
        context = make_context(models={"targets": [model], "batch": [model]}, budget={"usd": 0.02})
        questions = write_questions(context)
        kill_once_it_waits(context, questions, routes)
        assert spent_in(Path(context.run_dir)) > 0
        assert list((Path(context.run_dir) / "batches").glob("*.json"))

        routes.held.clear()
        step = run_stage(STAGE, context, questions=questions, phase="search")
        rows = read_table(step.table("responses"), RESPONSES)
        assert {row.text for row in rows} == {"Talk to them first."}
        assert [len(created.lines) for created in routes.created] == [len(rows)]
        assert server.requests == []
        each = 0.5 * (100 * 0.25 + 10 * 2.00) / 1e6
        assert abs(spent_in(Path(context.run_dir)) - len(rows) * each) < 0.01 * context.budget_usd + 1e-9
        assert not list((Path(context.run_dir) / "batches").iterdir())


def write_questions(context: RunContext) -> TableRef:
    questions = expand_family(context.recipe, DATA, "open")
    home = Path(context.run_dir) / "q-0"
    return write_step(home, "expand", "0", Outcome({QUESTIONS: questions}, ())).table("questions")


def kill_once_it_waits(context: RunContext, questions: TableRef, routes: BatchRoutes) -> None:
    """Send SIGKILL to a process that has polled its batch once."""
    script = [sys.executable, "-c", STAGE_IN_A_PROCESS, context.model_dump_json(by_alias=True)]
    process = subprocess.Popen([*script, questions.model_dump_json()], cwd=PROJECT)
    deadline = time.monotonic() + 60
    while not routes.looks:
        assert process.poll() is None, "the stage ended by itself"
        assert time.monotonic() < deadline, "the stage handed nothing over"
        time.sleep(0.02)
    process.kill()
    process.wait()


def test_a_plan_counts_batches_at_their_price(make_context: MakeContext) -> None:
    models = {"targets": ["openai:gpt-5-mini"], "judges": ["openai:gpt-4.1"]}
    live, batched = (
        estimate(make_context(models={**models, "batch": batch}, evolve={"rounds": 1}, budget={"usd": 0.02}))
        for batch in ([], ["openai:gpt-5-mini"])
    )
    assert live.cost_by_model["openai:gpt-5-mini"] > 0
    assert batched.cost_by_model == {
        "openai:gpt-5-mini": pytest.approx(live.cost_by_model["openai:gpt-5-mini"] / 2, abs=1e-5),
        "openai:gpt-4.1": live.cost_by_model["openai:gpt-4.1"],
    }


@pytest.mark.parametrize("name", ["embedded:smollm2-135m", "openai:gpt-4.1"])
def test_only_a_providers_model_that_the_recipe_names_can_be_asked_in_batches(name: str) -> None:
    with pytest.raises(ValidationError, match=r"models\.batch"):
        recipe_of(models={"targets": ["embedded:smollm2-135m"], "batch": [name]})
