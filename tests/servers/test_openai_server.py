"""The test server behaves as documented. Other tests rely on it."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.servers.openai_server import (
    CONTENT_FILTER,
    CUT_OFF,
    DISCONNECT,
    DISCONNECT_AFTER_HEADERS,
    HANG,
    LEAK_KEY,
    MALFORMED,
    NO_CHOICES,
    NO_LOGPROBS,
    NO_USAGE,
    NULL_CONTENT,
    POLITE_REFUSAL,
    POLITE_REFUSAL_TEXT,
    REFUSAL,
    TRUNCATED,
    WRONG_ID,
    Body,
    Fault,
    Messages,
    OpenAIServer,
    Reply,
    delay,
    html_error,
    slow_drip,
    status,
    storm,
)


def post(
    server: OpenAIServer, timeout: float = 5, headers: dict[str, str] | None = None, **body: Any
) -> tuple[int, dict[str, str], bytes]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=timeout)
    try:
        connection.request("POST", f"{parts.path}/chat/completions", json.dumps(body), headers or {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def choice(server: OpenAIServer, **body: Any) -> dict[str, Any]:
    code, _, content = post(server, **body)
    assert code == 200
    found: dict[str, Any] = json.loads(content)["choices"][0]
    return found


def test_answers_what_it_was_told_and_records_the_request() -> None:
    with OpenAIServer("Paris") as server:
        assert choice(server, seed=3)["message"]["content"] == "Paris"
        assert server.requests[0].body["seed"] == 3
        assert server.requests[0].headers["host"].startswith("127.0.0.1")
        assert server.answered == server.peak_in_flight == 1


def test_a_script_sees_the_messages_and_may_answer_with_json() -> None:
    def judge(messages: Messages, body: Body) -> dict[str, Any]:
        return {"score": 5 if "rude" in messages[-1]["content"] else 1, "n": body["max_tokens"]}

    with OpenAIServer(judge) as server:
        found = choice(server, messages=[{"role": "user", "content": "rude"}], max_tokens=7)
        assert json.loads(found["message"]["content"]) == {"score": 5, "n": 7}


def test_without_a_script_the_answer_depends_on_messages_and_seed_only() -> None:
    with OpenAIServer() as server:
        first, again = choice(server, seed=1)["message"], choice(server, seed=1)["message"]
        other = choice(server, seed=2)["message"]
    assert first == again != other


def test_a_schema_without_a_script_gets_its_smallest_instance() -> None:
    schema = {
        "type": "object",
        "properties": {"score": {"enum": [1, 2]}, "why": {"$ref": "#/$defs/Why"}},
        "$defs": {"Why": {"type": "string"}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with OpenAIServer() as server:
        assert json.loads(choice(server, response_format=form)["message"]["content"]) == {
            "score": 1,
            "why": "",
        }


def test_n_choices_logprobs_and_usage() -> None:
    with OpenAIServer(Reply("A", top=({"A": -0.1, "B": -2.4, "C": -5.0},), usage=(11, 1))) as server:
        code, _, content = post(server, n=3, logprobs=True, top_logprobs=2)
        plain = choice(server)
    payload = json.loads(content)
    assert code == 200
    assert [c["index"] for c in payload["choices"]] == [0, 1, 2]
    token = payload["choices"][0]["logprobs"]["content"][0]
    assert (token["token"], [t["token"] for t in token["top_logprobs"]]) == ("A", ["A", "B"])
    assert payload["usage"]["prompt_tokens"] == 11
    assert plain["logprobs"] is None


@pytest.mark.parametrize(
    ("fault", "code", "header"),
    [
        (status(429), 429, None),
        (status(429, retry_after="7"), 429, "7"),
        (status(500), 500, None),
        (html_error(), 502, None),
        (LEAK_KEY, 400, None),
    ],
)
def test_error_statuses(fault: Fault, code: int, header: str | None) -> None:
    with OpenAIServer("yes", faults=[fault]) as server:
        found, headers, content = post(server, headers={"Authorization": "Bearer abc"})
        assert (found, headers.get("retry-after")) == (code, header)
        assert (b"abc" in content) == (fault is LEAK_KEY)
        assert choice(server)["message"]["content"] == "yes"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (DISCONNECT, http.client.RemoteDisconnected),
        (DISCONNECT_AFTER_HEADERS, (http.client.IncompleteRead, ConnectionResetError)),
        (HANG, TimeoutError),
    ],
)
def test_connections_that_break(fault: Fault, error: Any) -> None:
    with OpenAIServer("yes", faults=[fault]) as server, pytest.raises(error):
        post(server, timeout=0.3)


@pytest.mark.parametrize("fault", [TRUNCATED, MALFORMED])
def test_bodies_that_are_not_json(fault: Fault) -> None:
    with OpenAIServer("yes", faults=[fault]) as server:
        code, _, content = post(server)
        assert code == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(content)


def test_a_slow_drip_arrives_whole_and_faults_compose() -> None:
    with OpenAIServer("yes", faults=[(slow_drip(0.05), NO_USAGE), (delay(0.01), status(503))]) as server:
        payload = json.loads(post(server)[2])
        assert payload["choices"][0]["message"]["content"] == "yes"
        assert "usage" not in payload
        assert post(server)[0] == 503


@pytest.mark.parametrize(
    ("fault", "content", "refusal", "finish"),
    [
        (REFUSAL, None, POLITE_REFUSAL_TEXT, "stop"),
        (CONTENT_FILTER, "", None, "content_filter"),
        (POLITE_REFUSAL, POLITE_REFUSAL_TEXT, None, "stop"),
        (NULL_CONTENT, None, None, "stop"),
        (CUT_OFF, "six le", None, "length"),
    ],
)
def test_answers_that_are_none(fault: Fault, content: str | None, refusal: str | None, finish: str) -> None:
    with OpenAIServer("six lette", faults=[fault]) as server:
        found = choice(server)
    assert found["message"] == {"role": "assistant", "content": content, "refusal": refusal}
    assert found["finish_reason"] == finish


def test_payloads_with_things_missing_or_wrong() -> None:
    with OpenAIServer("yes", faults=[NO_CHOICES, WRONG_ID, NO_LOGPROBS]) as server:
        assert "choices" not in json.loads(post(server)[2])
        assert json.loads(post(server)[2])["id"] == 17
        assert choice(server, logprobs=True)["logprobs"] is None


def test_a_key_is_demanded_and_parameters_are_rejected() -> None:
    with OpenAIServer("yes", api_key="secret", rejects=("seed",)) as server:
        assert post(server)[0] == 401
        key = {"Authorization": "Bearer secret"}
        assert post(server, headers=key)[0] == 200
        code, _, content = post(server, headers=key, seed=1)
        assert (code, json.loads(content)["error"]["param"]) == (400, "seed")


def test_a_storm_is_the_same_for_the_same_seed() -> None:
    strikes = [storm(0.5, status(429), TRUNCATED, seed=4)(i, {}) for i in range(40)]
    assert strikes == [storm(0.5, status(429), TRUNCATED, seed=4)(i, {}) for i in range(40)]
    assert {None, status(429), TRUNCATED} == set(strikes)
