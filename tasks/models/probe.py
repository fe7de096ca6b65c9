"""Ask a model a few tiny questions, to learn what its server supports and whether its answers can be used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from schemas.errors import BudgetError, CounterfoilError, join_steps
from schemas.recipe import ModelOptions
from tasks.models import connect_backend
from tasks.models.budget import Paid
from tasks.models.capabilities import (
    NO_LOGPROBS,
    Capabilities,
    capabilities_of,
    keep_capabilities,
    read_capabilities,
)
from tasks.models.names import ModelName, parse_model_name
from tasks.models.openai import OpenAIChat, import_client
from tasks.models.preflight import check_models
from tasks.models.protocol import Completion, Decoding, FailedAttempt, Message, Request
from tasks.models.settings import ModelSettings, with_options
from tasks.models.structured import parse_answer, strict_schema

PROBE_TIMEOUT_S = 60.0
PROBE_TOKENS = 64
"""Length limit of the probes. A model that thinks for longer does not answer at a small limit."""
ALTERNATIVES = 5


class ProbeAnswer(BaseModel):
    """The answer to the probe of structured output."""

    answer: str


@dataclass(frozen=True)
class ModelReport:
    """Findings about one model."""

    name: str
    capabilities: dict[str, Any] | None
    """See `Capabilities.describe`. `None` if nothing is known: the model was never asked."""
    problems: tuple[str, ...] = ()
    """Expected problems in a build, each with the next step."""
    usable: bool = True
    """Whether the model answers at all."""
    requests: int = 0
    """Requests of the probe, those that were refused not counted."""
    cost_usd: float = 0.0
    """Cost of these requests. It counts against the budget of the recipe."""


@dataclass
class _Probe:
    """Findings of a probe while it runs."""

    chat: OpenAIChat
    timeout_s: float
    options: ModelOptions | None = None
    paid: Paid | None = None
    """Pays for each request. `None`: the price of the model is unknown."""
    requests: int = 0
    problems: list[str] = field(default_factory=list)

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        self.requests += 1
        try:
            async with asyncio.timeout(self.timeout_s):
                ask = self.paid.ask if self.paid else self.chat.ask
                return await ask(with_options(request, self.options))
        except TimeoutError:
            return FailedAttempt("timeout", f"no answer within {self.timeout_s:g} s")


async def probe_models(
    names: Iterable[str], settings: ModelSettings, *, send: bool
) -> tuple[ModelReport, ...]:
    """Report on models, all of them, in the order given.

    Args:
        names: Models as a recipe names them.
        settings: Settings of the run. The results are kept in its directory.
        send: Send at most four tiny requests to every server. Otherwise only report the known results.
    """
    return tuple([await _report(name, settings, send) for name in names])


async def _report(name: str, settings: ModelSettings, send: bool) -> ModelReport:
    problems: tuple[str, ...] = ()
    try:
        check_models([name], settings)
    except BudgetError as error:
        problems = (_one_line(error),)
    except CounterfoilError as error:
        return ModelReport(name, None, (_one_line(error),), usable=False)
    model = parse_model_name(name).resolved()
    if model.backend != "openai":
        return ModelReport(name, None, problems)
    if not send:
        return ModelReport(name, read_capabilities(settings.run_dir).get(name), problems)
    import_client()
    report = await _probe_server(name, model, settings)
    return replace(report, problems=(*report.problems, *problems))


async def _probe_server(name: str, model: ModelName, settings: ModelSettings) -> ModelReport:
    limits = settings.limits(name)
    single = model.at_each()[0]
    backend = await connect_backend(single, settings, limits)
    assert isinstance(backend, OpenAIChat)
    paid = None
    with suppress(BudgetError):  # an unknown price is reported as a problem
        paid = Paid.of(backend.ask, name, settings)
    probe = _Probe(backend, min(PROBE_TIMEOUT_S, limits.timeout_s), settings.options.get(name), paid)
    try:
        usable = await _ask_probes(probe)
    finally:
        await backend.close()
        if paid:
            paid.close()
    capabilities = capabilities_of(backend.endpoint, single.name)
    keep_capabilities(settings.run_dir, name, capabilities)
    problems = [*probe.problems, *_changes(capabilities)]
    described = capabilities.describe() if usable else None
    cost_usd = paid.spent_usd if paid else 0.0
    return ModelReport(name, described, tuple(problems), usable, probe.requests, cost_usd)


async def _ask_probes(probe: _Probe) -> bool:
    """Send the probes. Return whether the model answers."""
    system = Message("system", "You answer in one word.")
    first = Request(
        "probe",
        (system, Message("user", "Is water wet? Answer yes or no.")),
        Decoding(PROBE_TOKENS, temperature=0.0, seed=1),
    )
    answer = await probe.ask(first)
    if isinstance(answer, FailedAttempt):
        probe.problems.append(_of_failure(answer))
        if answer.kind != "truncated_reasoning":
            return False
    scored = Request(
        "probe",
        (Message("user", "Is the sky blue? Answer yes or no."),),
        Decoding(PROBE_TOKENS, temperature=0.0, top_logprobs=ALTERNATIVES),
    )
    with_logprobs = await probe.ask(scored)
    if isinstance(with_logprobs, Completion) and not with_logprobs.logprobs:
        probe.chat.capabilities.refused |= {"logprobs", "top_logprobs"}
        probe.chat.capabilities.changes["logprobs"] = NO_LOGPROBS
    await _probe_schema(probe)
    return True


async def _probe_schema(probe: _Probe) -> None:
    request = Request(
        "probe",
        (Message("user", 'What is the capital of France? Answer as a JSON object {"answer": "…"}.'),),
        Decoding(PROBE_TOKENS, temperature=0.0),
        json_schema=strict_schema(ProbeAnswer),
    )
    answer = await probe.ask(request)
    if isinstance(answer, FailedAttempt):
        if answer.kind != "truncated_reasoning":
            probe.problems.append(f"structured output: {_of_failure(answer)}")
        return
    try:
        parse_answer(answer.text, ProbeAnswer, cut_off=answer.finish_reason == "length")
    except ValueError as error:
        probe.problems.append(
            f"structured output: the answer does not follow the JSON schema ({error}); a judge of this model "
            "will often abstain"
        )


def _changes(capabilities: Capabilities) -> list[str]:
    return [f"changed: {text}" for _, text in sorted(capabilities.changes.items())]


def _of_failure(failure: FailedAttempt) -> str:
    return join_steps(failure.message, failure.hint) if failure.hint else failure.message


def _one_line(error: CounterfoilError) -> str:
    return join_steps(error.message, error.hint) if error.hint else error.message
