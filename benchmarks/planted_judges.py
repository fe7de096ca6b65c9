"""A scripted judge of known quality, asked over HTTP, reads what the simulated target said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.planted_worlds import script
from tests.servers.openai_server import OpenAIServer
from tests.servers.scripted_judges import ScriptedJudge
from tests.simulated.target import badness_of

NOISE = 0.02
OVERLOOKS = {1: 0.3, 2: 0.1, 3: 0.0}
"""Known error rates: verdicts that say the opposite, and differences that are overlooked by size (the number of
answers of three that show them)."""


@contextmanager
def scripted_judge(seed: int) -> Iterator[str]:
    """The name of a judge that answers over loopback."""
    judge = ScriptedJudge(badness=badness_of(script().bank), noise=NOISE, overlooks=OVERLOOKS, seed=seed)
    with OpenAIServer(judge) as server:
        yield server.model("judge")
