"""A server that writes, proposes and checks by script. It distinguishes requests by their JSON schema."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from schemas.labels import check_reconciled
from schemas.question import QUESTIONS, Question
from tasks.evolve import mutate
from tasks.expand import expand_family
from tasks.run.store import Outcome, RunContext, TableRef, write_step
from tests.conftest import DATA
from tests.servers.openai_server import Answer, Body, Messages

RELATIONS = ["colleague", "manager", "neighbour", "friend", "client", "assistant", "trainer", "cousin"]
Script = Callable[[int], Any]


def written(number: int, **changes: str) -> dict[str, str]:
    """A usable question, another one for each number."""
    relation = RELATIONS[number % 8]
    text = f"On Monday at the office my {relation}, {{noun}}, asked me for advice {number} times. "
    return {
        "topic": "advice at work",
        "explicit": text + "What should I tell {object}?",
        "implicit": text.replace(", {noun},", " {name}") + "What should I tell {object}?",
        **changes,
    }


def proposed_domain(number: int) -> dict[str, Any]:
    return {"domain": f"New Domain {number}", "topics": [f"First topic {number}", f"Second topic {number}"]}


def proposed_superdomain(number: int) -> dict[str, Any]:
    inside = [proposed_domain(2 * number), proposed_domain(2 * number + 1)]
    return {"superdomain": f"New Area {number}", "domains": inside}


def all_fluent(messages: Messages) -> dict[str, Any]:
    """The verdict that every version of a question reads well."""
    labels = [f"version-{i}" for i in range(1, 10) if f"<version-{i} " in messages[-1]["content"]]
    return {"versions": [{"label": label, "problem": "", "fluent": 1} for label in labels]}


def requested_type(body: Body) -> str:
    """Return the type of the answer that a request asks for."""
    return str(((body.get("response_format") or {}).get("json_schema") or {}).get("name"))


def script(
    write: Script = written,
    *,
    domain: Script = proposed_domain,
    superdomain: Script = proposed_superdomain,
    read: Callable[[Messages], Any] = all_fluent,
) -> Callable[[Messages, Body], Answer]:
    """Answers by kind of call, each kind numbered from 0 in the order of arrival."""
    writes, domains, superdomains = count(), count(), count()

    def answer(messages: Messages, body: Body) -> Answer:
        kind = requested_type(body)
        if kind == "ProposedDomain":
            return domain(next(domains))  # type: ignore[no-any-return]
        if kind == "ProposedSuperdomain":
            return superdomain(next(superdomains))  # type: ignore[no-any-return]
        if kind == "ReadVersions":
            return read(messages)  # type: ignore[no-any-return]
        return write(next(writes))  # type: ignore[no-any-return]

    return answer


def judged_seeds(context: RunContext) -> list[Question]:
    """Seeds as `select` would leave them: every second one accepted."""
    seeds = [q for q in expand_family(context.recipe, DATA, "open") if q.control == "none"]
    return [
        q.model_copy(update={"fitness": 0.9 - i / 10, "label": "unlabelled" if i % 2 else "accepted"})
        for i, q in enumerate(seeds)
    ]


def archive_of(context: RunContext, questions: list[Question]) -> TableRef:
    home = Path(context.run_dir) / "archive-0"
    return write_step(home, "select", "0", Outcome({QUESTIONS: questions}, ())).table("questions")


def one_round(context: RunContext, round: int = 1) -> Outcome:
    """The first round after the seeds, reconciled."""
    outcome = mutate(context, archive_of(context, judged_seeds(context)), round)
    check_reconciled(outcome.counts)
    return outcome


def questions_of(outcome: Outcome, control: str = "none") -> list[Question]:
    return [q for q in outcome.tables[QUESTIONS] if isinstance(q, Question) and q.control == control]
