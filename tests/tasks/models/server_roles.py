"""Play the behaviour of a server in every role of a model: target, judge, generator, relabel judge.

Each role runs the stage that a build or `relabel` runs, over HTTP, after the check of the server.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.run import run_relabel
from schemas.answers import JUDGEMENTS, RESPONSES, Judgement, Response
from schemas.errors import CounterfoilError
from schemas.options import RelabelOptions
from schemas.question import QUESTIONS
from tasks.evolve import mutate
from tasks.expand import expand
from tasks.judge import judge
from tasks.models import CALLS, ModelSettings
from tasks.models.preflight import preflight
from tasks.respond import respond
from tasks.run.store import RunContext, write_step
from tests.conftest import PROJECT, recipe_of
from tests.servers.openai_server import Answer, Body, Messages, OpenAIServer, Reply, smallest_instance
from tests.tasks.evolve.writing_server import archive_of, judged_seeds, written
from tests.tasks.judge.material import fair_answers, make_question, put_table
from tests.tasks.models.test_server_behaviours import CASES, Case

ROLES = ("target", "judge", "generator", "relabel judge")
LIMITS = {"max_in_flight": 4, "timeout_s": 5, "attempts": 3, "patience_s": 2.0, "outage_s": 0.5}
PAIR = {
    "query": "What is the capital of France?",
    "pos": ["Paris is the capital."],
    "neg": ["Bread is baked."],
}


@dataclass(frozen=True)
class Ended:
    """How a stage ended with a server."""

    case: str
    role: str
    outcome: str
    """`answered`, `refused`, `abstained`, `failed`, or `stopped`: with an error for the user."""
    exit_code: int
    message: str
    requests: int
    """Requests that were sent, refused ones and the check of the server included."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Answers, verdicts or questions by outcome. Empty if the stage stopped."""


def play_role(case: Case, role: str, folder: Path) -> Ended:
    """Run the stage of a role against a server with one behaviour."""
    with OpenAIServer(_script(case), faults=case.rule) as server:
        ended = run_role(role, server.model(), folder)
        return replace(ended, case=case.name, requests=len(server.requests))


def run_role(role: str, model: str, folder: Path, **recipe: Any) -> Ended:
    """Run the stage of a role with any model. `requests` counts those that were answered or failed.

    Args:
        role: One of `ROLES`.
        model: Name of the model.
        folder: A new folder for the run.
        **recipe: Sections of the recipe that replace the usual ones.
    """
    folder.mkdir(parents=True)
    context = _context(model, folder, recipe)
    before = CALLS.sent
    counts: Counter[str] = Counter()
    try:
        preflight([model], ModelSettings.of(context))
        counts = STAGES[role](context, model, folder)
        outcome, code, words = " and ".join(sorted(+counts)), 0, ""
    except CounterfoilError as error:
        outcome, code, words = "stopped", error.exit_code, str(error)
    return Ended(model, role, outcome, code, " ".join(words.split()), CALLS.sent - before, dict(counts))


def _context(model: str, folder: Path, other: Mapping[str, Any]) -> RunContext:
    recipe = {
        "models": {"targets": [model], "judges": [model], "generator": model, "may_share_family": True},
        "families": {"open": {"questions": 4}, "decision": {"questions": 2, "samples": 1}},
        "evolve": {"rounds": 1, "questions_per_round": 3},
        "limits": LIMITS | {"max_answer_mb": 1.0},
        "budget": {"free": [model]},
    }
    return RunContext(
        recipe=recipe_of(**recipe | other),
        run_dir=str(folder / "run"),
        data_dir=str(PROJECT / "data"),
        cache_path=str(folder / "cache.sqlite"),
        budget_usd=0.0,
    )


def _script(case: Case) -> Callable[[Messages, Body], Answer]:
    """Return answers that fit every role, whatever form of structured output is negotiated."""
    made = iter(range(1_000_000))

    def answer(messages: Messages, body: Body) -> Answer:
        shown = messages[-1]["content"]
        schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
        if schema is None and "JSON" in shown and "{" in shown:
            schema = _schema_in(shown)
        if schema is None:
            return Reply("Yes", top=({"Yes": -0.1, "No": -2.5},))
        if "explicit" in schema.get("properties", {}):
            return written(next(made))
        found = smallest_instance(schema)
        return found | ({"evidence": "NO_ANSWER"} if found.get("evidence") == "" else {})

    return answer


def _schema_in(text: str) -> dict[str, object] | None:
    """Return the JSON schema at the end of a prompt."""
    for start in (i for i, c in enumerate(text) if c == "{"):
        try:
            found, _ = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            continue
        if isinstance(found, dict) and "properties" in found:
            return found
    return None


def _as_target(context: RunContext, model: str, folder: Path) -> Counter[str]:
    step = write_step(Path(context.run_dir) / "q-0", "expand", "0", expand(context, ("decision",)))
    rows = respond(context, step.table("questions"), "search").tables[RESPONSES]
    return Counter(_status_of(r) for r in rows if isinstance(r, Response))


def _status_of(response: Response) -> str:
    if response.failure is not None:
        return "failed"
    return "refused" if response.refused or response.reading == "refused" else "answered"


def _as_judge(context: RunContext, model: str, folder: Path) -> Counter[str]:
    questions = [make_question(n) for n in range(3)]
    responses = [r for q in questions for r in fair_answers(q)]
    outcome = judge(
        context,
        questions=put_table(folder, QUESTIONS, questions),
        responses=put_table(folder, RESPONSES, responses),
        phase="search",
        judges=(model,),
    )
    rows = [j for j in outcome.tables[JUDGEMENTS] if isinstance(j, Judgement)]
    return Counter("abstained" if j.abstention else "answered" for j in rows)


def _as_generator(context: RunContext, model: str, folder: Path) -> Counter[str]:
    counts = mutate(context, archive_of(context, judged_seeds(context)), 1).counts[0]
    return Counter(answered=counts.kept, dropped=counts.dropped, failed=counts.failed)


def _as_relabel_judge(context: RunContext, model: str, folder: Path) -> Counter[str]:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(PAIR | {"query": f"{PAIR['query']} {n}"}) + "\n" for n in range(3)))
    options = RelabelOptions.model_validate(
        {
            "input": path,
            "judges": (model,),
            "free": (model,),
            "strategy": "graded",
            "min_judged": context.recipe.validation.min_judged,
        }
    )
    result = run_relabel(options)
    return Counter(answered=result["candidates"] - result["abstained"], abstained=result["abstained"])


STAGES: dict[str, Callable[[RunContext, str, Path], Counter[str]]] = {
    "target": _as_target,
    "judge": _as_judge,
    "generator": _as_generator,
    "relabel judge": _as_relabel_judge,
}

__all__ = ["CASES", "ROLES", "Ended", "play_role", "run_role"]
