"""The cache key covers everything that changes an answer and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.models.cache import fingerprint
from tasks.models.protocol import Decoding, JsonSchema, Message, Request

BASE = Request("t", (Message("user", "hi"),), Decoding(10, seed=1), sample=0, stage="respond")
SCHEMA = JsonSchema("a", {"type": "object", "properties": {"why": {}, "score": {}}})
REORDERED = JsonSchema("a", {"type": "object", "properties": {"score": {}, "why": {}}})


@pytest.mark.parametrize("other", [replace(BASE, tag="u"), replace(BASE, stage="judge")])
def test_bookkeeping_is_not_in_the_key(other: Request) -> None:
    assert fingerprint("m", other) == fingerprint("m", BASE)


def test_everything_that_decides_an_answer_is_in_the_key() -> None:
    decodings = [
        Decoding(11, seed=1),
        Decoding(10, temperature=0.5, seed=1),
        Decoding(10, top_p=0.9, seed=1),
        Decoding(10, seed=2),
        Decoding(10),
        Decoding(10, seed=1, stop=("x",)),
        Decoding(10, seed=1, top_logprobs=5),
        Decoding(10, seed=1, choices=("No", "Yes")),
    ]
    others = [
        *(replace(BASE, decoding=d) for d in decodings),
        replace(BASE, sample=1),
        replace(BASE, messages=(Message("system", "hi"),)),
        replace(BASE, messages=(Message("user", "hi"), Message("user", ""))),
        replace(BASE, json_schema=SCHEMA),
        replace(BASE, json_schema=REORDERED),
    ]
    keys = {fingerprint("m", request) for request in (BASE, *others)} | {fingerprint("n", BASE)}
    assert len(keys) == len(others) + 2


def test_one_and_one_point_nought_are_one_temperature() -> None:
    assert fingerprint("m", replace(BASE, decoding=Decoding(10, temperature=1, seed=1))) == fingerprint(
        "m", BASE
    )


def test_a_request_without_choices_has_the_key_that_it_always_had() -> None:
    assert fingerprint("m", BASE).startswith("7cd0d7908ca4d394")
