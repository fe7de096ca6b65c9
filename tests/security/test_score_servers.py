"""Odd answers of servers of scores and embeddings are failures with a reason, and end in time."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ModelError
from schemas.recipe import Limits
from tasks.models import run_async
from tasks.models.embeddings import embed_texts, read_vectors
from tasks.models.openai_format import score_text
from tasks.models.protocol import Decoding, FailedAttempt, Message, Request
from tasks.models.rerank import read_scores, score_pairs
from tests.security.guards import guarded
from tests.security.test_hostile_inputs import answering, forever, raw
from tests.tasks.models.asking import settings_for

Send = Callable[[socket.socket], None]
LONG = b"1" + b"0" * 400
VECTOR = [0.1, 0.2]


def body(content: Any, kind: bytes = b"application/json", status: bytes = b"200 OK") -> Send:
    sent = content if isinstance(content, bytes) else json.dumps(content).encode()
    return raw(sent, b"Content-Type: %b\r\nContent-Length: %d\r\n" % (kind, len(sent)), status)


def vectors(first: Any, second: Any, **other: Any) -> Send:
    items = [{"index": 0, "embedding": first}, {"index": 1, "embedding": second}]
    return body({"data": items, **other})


def numbers(first: bytes) -> Send:
    return body(
        b'{"data":[{"index":0,"score":%b,"embedding":[%b,1]},{"index":1,"embedding":[1,1]}]}' % (first, first)
    )


REFUSED: dict[str, Send] = {
    "a long whole number": numbers(LONG),
    "more digits than Python reads": numbers(b"1" * 5_000),
    "no number": numbers(b"NaN"),
    "infinity": numbers(b"1e999"),
    "too large for a float of 32 bits": numbers(b"1e300"),
    "brackets": body(b"[" * 200_000),
    "deep": body(b'{"data":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "a text": body(b"hello", b"text/plain"),
    "half of JSON": body(b'{"data":'),
    "no UTF-8": body(b'{"data":[{"index":0,"embedding":"\xff\xfe"}]}'),
    "null": body(None),
    "a list": body([1]),
    "nothing in it": body({}),
    "data is null": body({"data": None}),
    "data is a text": body({"data": "abc"}),
    "data is an object": body({"data": {"a": 1}}),
    "several lengths": vectors([1, 2], [1]),
    "texts as vectors": vectors("abc", "abd"),
    "texts as numbers": vectors(["1", "2"], ["3", "4"]),
    "no vectors": vectors(None, None),
    "empty vectors": vectors([], []),
    "nested vectors": vectors([[1, 2]], [[1, 2]]),
    "truth values": vectors([True], [False]),
    "objects as numbers": vectors([{}], [{}]),
    "one vector for two texts": body({"data": [{"index": 0, "embedding": VECTOR}]}),
    "one index twice": body({"data": [{"index": 0, "embedding": VECTOR}] * 2}),
    "index as text": body({"data": [{"index": "0", "embedding": VECTOR}, {"index": 1, "embedding": VECTOR}]}),
    "without an index": body({"data": [{"embedding": VECTOR}] * 2}),
    "items are null": body({"data": [None, None]}),
    "an error with status 200": body({"error": {"message": "\x1b[2Jno\u202e", "code": 10**30}}),
    "an error that acts": body(b"\x1b]0;owned\x07\x1b[2J", b"text/plain", b"400 Bad Request"),
    "a redirect": raw(b"", b"Location: http://127.0.0.1:22/\r\nContent-Length: 0\r\n", b"307 Other"),
    "no content": raw(b"", b"", b"204 No Content"),
    "a long wait": raw(b"", b"Retry-After: 9999999\r\nContent-Length: 0\r\n", b"429 Too Many"),
    "a negative wait": raw(b"", b"Retry-After: -1\r\nContent-Length: 0\r\n", b"503 Unavailable"),
    "no HTTP": lambda connection: connection.sendall(b"\0\xff garbage\r\n\r\n"),
    "nothing": lambda connection: None,
    "less than promised": raw(b'{"da', b"Content-Type: application/json\r\nContent-Length: 500\r\n"),
    "endless headers": forever(b"X: y\r\n", 0, b"HTTP/1.1 200 OK\r\n"),
    "a byte now and then": forever(b" ", 0.05, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"),
    "a key in the error": body(
        {"error": {"message": "bad key sk-" + "a1B2" * 8}}, status=b"401 Unauthorized"
    ),
}
USAGES: tuple[Any, ...] = (
    "x",
    {"total_tokens": "x"},
    {"total_tokens": -5},
    {"total_tokens": None},
    [1],
    10**400,
)
HASTE = Limits(attempts=1, timeout_s=0.7, outage_s=0, patience_s=0.1)


def ask(kind: str, address: str, folder: Path) -> Any:
    name = f"openai:m@{address.removesuffix('/feed')}/v1"
    settings = settings_for(folder, name, limits=HASTE)
    if kind == "embeddings":
        return embed_texts(name, ["a", "b"], settings).tolist()
    return run_async(score_pairs(name, [("q", "a"), ("q", "b")], settings))


@pytest.mark.parametrize("kind", ["embeddings", "scores"])
@pytest.mark.parametrize("answer", REFUSED)
def test_odd_answers_of_score_servers_are_failures(answer: str, kind: str, tmp_path: Path) -> None:
    with answering(REFUSED[answer]) as address:
        port = int(address.split(":")[2].split("/")[0])
        with guarded(tmp_path, hosts=frozenset({("127.0.0.1", port)})) as guard:
            try:
                found = ask(kind, address, tmp_path)
            except ModelError as error:
                shown = str(error)
                assert "\x1b" not in shown
                assert "\u202e" not in shown
                assert "a1B2a1B2" not in shown
                assert f"127.0.0.1:{port}" in shown
            else:
                assert kind == "scores"
                assert found == [None, None]
    assert {found for found in guard.connections if found[1] != port} == set()


@pytest.mark.parametrize("usage", USAGES, ids=range(len(USAGES)))
def test_odd_usage_is_estimated(usage: Any, tmp_path: Path) -> None:
    with answering(vectors([3, 4], [0, 0], usage=usage)) as address:
        assert ask("embeddings", address, tmp_path) == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]


def test_vectors_keep_the_order_of_their_index() -> None:
    answer = {"data": [{"index": 1, "embedding": [1, 2.5]}, {"index": 0, "embedding": [3, 4]}]}
    found = read_vectors(answer, 2)
    assert found is not None
    assert found.tolist() == [[3, 4], [1, 2.5]]


@pytest.mark.parametrize(
    "score", [10**400, -(10**400), math.nan, math.inf, True, "1", [1, 2], [], {}, None, 1e300]
)
def test_no_score_is_made_of_an_odd_value(score: Any) -> None:
    assert read_scores({"data": [{"index": 0, "score": score}]}, 1) == {}


# Texts that a server scores, token by token.

SCORED = Request("t", (Message("user", "Hi there"),), Decoding(1), score_prompt=True)
ENTRY: dict[str, Any] = {"id": 2, "logprob": -1.5}


def score_with(answers: Any, owner: str) -> tuple[Any, int]:
    """Return the outcome, and the number of calls."""
    calls = 0

    async def call(path: str, body: Any) -> Any:
        nonlocal calls
        calls += 1
        return answers(path)

    return run_async(score_text(SCORED, "m", owner, call, "http://h")), calls


def forced(tokens: Any, entry: Any, model: Any = "m") -> Callable[[str], Any]:
    completion = {"choices": [{"logprobs": {"content": [entry]}}], "model": model}
    return lambda path: {"tokens": tokens} if path.endswith("tokenize") else completion


@pytest.mark.parametrize("tokens", [[1] * 100_000, "ab", None, [1, "2"], {"0": 1}, [[1], [2]]])
def test_server_does_not_decide_the_number_of_calls(tokens: Any) -> None:
    outcome, calls = score_with(forced(tokens, ENTRY), "llamacpp")
    assert isinstance(outcome, FailedAttempt)
    assert calls == 1


@pytest.mark.parametrize(
    "entry", [{"id": 10**400, "logprob": -1}, {"id": 2, "logprob": 10**400}, 7, {}, None, []]
)
def test_odd_probabilities_of_tokens_are_failures(entry: Any) -> None:
    outcome, _ = score_with(forced([1, 2], entry), "llamacpp")
    assert isinstance(outcome, FailedAttempt)


@pytest.mark.parametrize("model", [{"a": 1}, "\x1b[2J\u202e" + "m" * 100_000, ["m"], "\ud800", None, 5])
def test_names_of_models_are_short_and_plain(model: Any) -> None:
    outcome, _ = score_with(forced([1, 2], ENTRY, model), "llamacpp")
    assert outcome.revision is None or (len(outcome.revision) <= 256 and outcome.revision.isprintable())


ECHOES: tuple[dict[str, Any], ...] = (
    {"usage": {"prompt_tokens": 10**400}},
    {"usage": {"prompt_tokens": -7}},
    {"usage": "x"},
    {"usage": [1]},
    *(
        {"logprobs": {"token_logprobs": found}}
        for found in ([None, 10**400, -1.0], [None, "x", {}], {"a": 1})
    ),
    {"logprobs": 5},
    {"text": None},
)


@pytest.mark.parametrize("change", ECHOES, ids=range(len(ECHOES)))
def test_odd_echoes_are_failures_or_finite(change: dict[str, Any]) -> None:
    choice = {"text": "Hi there", "logprobs": {"token_logprobs": [None, -1.0, -2.0]}}
    payload = {"choices": [choice | {k: v for k, v in change.items() if k != "usage"}], **change}
    outcome, _ = score_with(lambda path: payload, "vllm")
    if not isinstance(outcome, FailedAttempt):
        assert outcome.tokens_in >= 0
        assert all(math.isfinite(lp) and lp <= 0 for lp in outcome.prompt_logprobs)


def test_a_slow_server_does_not_keep_the_program(tmp_path: Path) -> None:
    slow = answering(REFUSED["a byte now and then"])
    with slow as address, pytest.raises(ModelError, match="no answer within"):
        ask("scores", address, tmp_path)
