"""Every response of a server, and its absence, becomes a completion or a typed failure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import ModelError
from schemas.recipe import Limits, ModelOptions
from tasks.models import count_cached, open_model, run_async
from tasks.models.capabilities import read_capabilities
from tasks.models.protocol import Completion, Decoding, Failure, JsonSchema, Message, Outcome, Request
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
    REFUSAL,
    TRUNCATED,
    WRONG_ID,
    Fault,
    OpenAIServer,
    Reply,
    html_error,
    moved,
    slow_drip,
    status,
)
from tests.tasks.models.asking import answers, question, questions, settings_for

ONCE = Limits(max_in_flight=2, timeout_s=0.5, attempts=1)
SCHEMA = JsonSchema("Verdict", {"type": "object", "properties": {"score": {"enum": [1, 2]}}})
KEY = "sk-very-secret-0123456789"


def ask_one(server: OpenAIServer, tmp_path: Path, request: Request, limits: Limits = ONCE) -> Outcome:
    settings = settings_for(tmp_path, server.model(), limits=limits)
    (outcome,) = answers(server.model(), settings, [request]).values()
    return outcome


def test_an_answer_comes_back_with_its_revision_tokens_and_tag(tmp_path: Path) -> None:
    with OpenAIServer(Reply("Paris", usage=(7, 2)), revision="m-2026") as server:
        outcome = ask_one(server, tmp_path, question(1))
        body = server.requests[0].body
    assert outcome == Completion("tag 1", "Paris", "stop", "m-2026", 7, 2, 0.0, False)
    assert body == {
        "model": "test-model",
        "messages": [{"role": "user", "content": "question 1"}],
        "max_tokens": 20,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 1,
    }


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(429), "rate_limit"),
        (status(500), "server"),
        (status(503), "server"),
        (html_error(502), "server"),
        (status(400), "bad_request"),
        (status(408), "timeout"),
        (DISCONNECT, "connection"),
        (DISCONNECT_AFTER_HEADERS, "connection"),
        (HANG, "timeout"),
        (slow_drip(3), "timeout"),
        (TRUNCATED, "malformed"),
        (MALFORMED, "malformed"),
        (NO_CHOICES, "malformed"),
        (NULL_CONTENT, "empty"),
    ],
)
def test_each_error_is_a_failure_of_its_kind(tmp_path: Path, fault: Fault, kind: str) -> None:
    with OpenAIServer("yes", faults=lambda number, body: fault) as server:
        outcome = ask_one(server, tmp_path, question(1))
    assert isinstance(outcome, Failure)
    assert (outcome.tag, outcome.kind) == ("tag 1", kind)
    assert outcome.message


@pytest.mark.parametrize(
    ("fault", "text", "refusal", "finish"),
    [
        (REFUSAL, "I'm sorry, but I can't help with that.", True, "stop"),
        (CONTENT_FILTER, "", True, "content_filter"),
        (CUT_OFF, "yes, ", False, "length"),
        (WRONG_ID, "yes, sir", False, "stop"),
        (NO_LOGPROBS, "yes, sir", False, "stop"),
    ],
)
def test_odd_answers_are_answers(tmp_path: Path, fault: Fault, text: str, refusal: bool, finish: str) -> None:
    with OpenAIServer("yes, sir", faults=[fault]) as server:
        outcome = ask_one(server, tmp_path, question(1, top_logprobs=3))
    assert isinstance(outcome, Completion)
    assert (outcome.text, outcome.refusal, outcome.finish_reason) == (text, refusal, finish)


def test_a_prompt_that_the_content_filter_stops_is_a_refusal(tmp_path: Path) -> None:
    filtered = status(400, error_code="content_filter")
    with OpenAIServer("yes", faults=lambda n, b: filtered) as server:
        outcome = ask_one(server, tmp_path, question(1))
    assert isinstance(outcome, Completion)
    assert outcome.refusal


def test_missing_usage_is_estimated_from_bytes(tmp_path: Path) -> None:
    with OpenAIServer("x" * 40, faults=[NO_USAGE]) as server:
        outcome = ask_one(server, tmp_path, question(1))
    assert isinstance(outcome, Completion)
    assert (outcome.tokens_in, outcome.tokens_out) == (4 + 3, 10)


def test_logprobs_are_read(tmp_path: Path) -> None:
    with OpenAIServer(Reply("A", top=({"A": -0.1, "B": -2.5},))) as server:
        outcome = ask_one(server, tmp_path, question(1, top_logprobs=5))
        body = server.requests[0].body
    assert (body["logprobs"], body["top_logprobs"]) == (True, 5)
    assert isinstance(outcome, Completion)
    assert outcome.logprobs[0].top == (("A", -0.1), ("B", -2.5))


@pytest.mark.parametrize(
    ("parameter", "request_"),
    [
        ("seed", question(1)),
        ("logprobs", question(1, top_logprobs=2)),
        ("top_logprobs", question(1, top_logprobs=2)),
        ("response_format", question(1, json_schema=SCHEMA)),
        ("max_tokens", question(1)),
    ],
)
def test_a_parameter_that_the_server_does_not_take_is_left_out_from_then_on(
    tmp_path: Path, parameter: str, request_: Request
) -> None:
    with OpenAIServer("yes", rejects=(parameter,)) as server:
        assert isinstance(ask_one(server, tmp_path, request_), Completion)
        assert [parameter in r.body for r in server.requests] == [True, False]
        again = Request("other", (Message("user", "other"),), request_.decoding, json_schema=SCHEMA)
        assert isinstance(ask_one(server, tmp_path, again), Completion)
        assert [parameter in r.body for r in server.requests] == [True, False, False]


def test_without_max_tokens_the_length_is_limited_by_its_other_name(tmp_path: Path) -> None:
    with OpenAIServer("yes", rejects=("max_tokens",)) as server:
        ask_one(server, tmp_path, question(1))
        assert server.requests[-1].body["max_completion_tokens"] == 20


def test_if_no_length_parameter_is_supported_the_call_fails(tmp_path: Path) -> None:
    with OpenAIServer("yes", rejects=("max_tokens", "max_completion_tokens")) as server:
        for _ in range(2):
            assert isinstance(ask_one(server, tmp_path, question(1)), Failure)
        assert all("max_tokens" in r.body or "max_completion_tokens" in r.body for r in server.requests)


def test_without_structured_output_the_schema_is_in_the_prompt(tmp_path: Path) -> None:
    with OpenAIServer("{}", rejects=("response_format",)) as server:
        ask_one(server, tmp_path, question(1, json_schema=SCHEMA))
        prompt = server.requests[-1].body["messages"][-1]["content"]
    assert prompt.startswith("question 1\n\n")
    assert json.dumps(SCHEMA.schema) in prompt


def test_a_refused_temperature_is_given_up_and_the_change_is_kept_with_the_run(tmp_path: Path) -> None:
    request = Request("t", (Message("user", "hi"),), Decoding(5, temperature=0.3))
    with OpenAIServer("yes", rejects=("temperature",)) as server:
        assert isinstance(ask_one(server, tmp_path, request), Completion)
        record = read_capabilities(tmp_path / "run")[server.model()]
    assert record["temperature"] == "server default"
    assert record["changes"] == {"temperature": "temperature 0.3 requested, server default used"}


def test_a_later_process_of_the_run_starts_with_known_capabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("t", (Message("user", "hi"),), Decoding(5, temperature=0.3))
    other = Request("u", (Message("user", "hello"),), Decoding(5, temperature=0.3))
    with OpenAIServer("yes", rejects=("temperature",)) as server:
        assert isinstance(ask_one(server, tmp_path, request), Completion)
        monkeypatch.setattr("tasks.models.capabilities._known", {})  # like a new process
        before = len(server.requests)
        assert isinstance(ask_one(server, tmp_path, other), Completion)
        assert len(server.requests) == before + 1
        assert "temperature" not in server.requests[-1].body


def test_a_400_about_something_else_is_a_failure_with_the_servers_words(tmp_path: Path) -> None:
    message = "This model's maximum context length is 10 tokens; you asked for max_tokens=20."
    with OpenAIServer("yes", faults=lambda n, b: status(400, message=message)) as server:
        outcome = ask_one(server, tmp_path, question(1))
        assert len(server.requests) == 1
    assert isinstance(outcome, Failure)
    assert message in outcome.message


@pytest.mark.parametrize("fault", [LEAK_KEY, status(500), DISCONNECT, MALFORMED])
def test_no_failure_holds_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIServer("yes", faults=lambda n, b: fault) as server:
        outcome = ask_one(server, tmp_path, question(1))
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert isinstance(outcome, Failure)
    assert KEY not in repr(outcome)
    assert not re.search(r"sk-\w|Bearer \w", outcome.message)


def test_neither_prompt_nor_key_follows_a_redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIServer("yes") as other:
        address = moved(f"{other.url}/chat/completions")
        with OpenAIServer(faults=lambda n, b: address) as server:
            with pytest.raises(ModelError, match=f"redirects to http://127.0.0.1:{other.port};"):
                ask_one(server, tmp_path, question(1))
            assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert other.requests == []


def test_other_servers_never_see_openai_account_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    with OpenAIServer("yes") as server:
        ask_one(server, tmp_path, question(1))
        assert "mine" not in str(server.requests[0].headers)


def test_a_proxy_is_never_used_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with OpenAIServer("yes") as server:
        assert isinstance(ask_one(server, tmp_path, question(1)), Completion)


def test_more_than_a_hundred_requests_can_be_in_flight(tmp_path: Path) -> None:
    limits = Limits(max_in_flight=150, timeout_s=10)
    with OpenAIServer("yes", latency_s=1.0) as server:
        settings = settings_for(tmp_path, server.model(), limits=limits)
        answers(server.model(), settings, questions(150))
        assert server.peak_in_flight > 100


def test_requests_are_drawn_as_they_are_needed(tmp_path: Path) -> None:
    drawn = 0

    def endless() -> Iterator[Request]:
        nonlocal drawn
        while True:
            yield question(drawn)
            drawn += 1

    async def first_ten(server: OpenAIServer) -> int:
        async with open_model(server.model(), settings_for(tmp_path, server.model())) as model:
            stream = model.complete(endless())
            found = [await anext(stream) for _ in range(10)]
        return len(found)

    with OpenAIServer("yes") as server:
        assert run_async(first_ten(server)) == 10
    assert drawn <= 600


def held(number: int = 1) -> Request:
    """Return a question with two allowed answers."""
    decoding = Decoding(8, seed=number, choices=("No", 'Yes "sir"'))
    return Request(f"t{number}", (Message("user", f"question {number}"),), decoding)


@pytest.mark.parametrize(
    ("owned_by", "sent"),
    [
        ("llamacpp", {"grammar": 'root ::= "No" | "Yes \\"sir\\""'}),
        ("vllm", {"structured_outputs": {"choice": ["No", 'Yes "sir"']}}),
        ("library", {}),
        (None, {}),
    ],
)
def test_choices_are_enforced_in_the_way_of_the_server_or_not_at_all(
    tmp_path: Path, owned_by: str | None, sent: dict[str, object]
) -> None:
    with OpenAIServer("No", owned_by=owned_by) as server:
        settings = settings_for(tmp_path, server.model())
        answers(server.model(), settings, [held(i) for i in range(5)])
        assert len(server.requests) == 5
        for request in server.requests:
            found = {k: v for k, v in request.body.items() if k in ("grammar", "structured_outputs")}
            assert found == sent
        assert [r.path for r in server.other_requests] == ["/v1/models"]


def test_the_kind_of_server_is_only_asked_for_choices(tmp_path: Path) -> None:
    with OpenAIServer("No", owned_by="vllm") as server:
        ask_one(server, tmp_path, question(1))
        assert server.other_requests == []


def test_a_server_without_a_list_of_models_answers_freely(tmp_path: Path) -> None:
    with OpenAIServer("No", models_status=404) as server:
        assert isinstance(ask_one(server, tmp_path, held()), Completion)
        assert "grammar" not in server.requests[0].body


def test_a_grammar_that_the_server_does_not_take_is_left_out_from_then_on(tmp_path: Path) -> None:
    with OpenAIServer("No", owned_by="llamacpp", rejects=("grammar",)) as server:
        assert isinstance(ask_one(server, tmp_path, held()), Completion)
        assert ["grammar" in r.body for r in server.requests] == [True, False]


def test_a_model_gets_the_options_of_the_recipe(tmp_path: Path) -> None:
    options = ModelOptions.model_validate(
        {
            "temperature": 0.6,
            "max_tokens": 50,
            "reasoning": {"effort": "low", "max_tokens": 1000},
            "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
        }
    )
    with OpenAIServer("yes") as server:
        plain = settings_for(tmp_path, server.model(), limits=ONCE)
        changed = replace(plain, options={server.model(): options})
        for settings in (plain, changed, changed):
            answers(server.model(), settings, [question(1)])
        first, second = (r.body for r in server.requests)
        assert count_cached(server.model(), [question(1)], changed) == 1
    assert (first["max_tokens"], second["max_tokens"], second["temperature"]) == (20, 1050, 0.6)
    assert second["reasoning_effort"] == "low"
    assert second["chat_template_kwargs"] == {"enable_thinking": False}


def test_an_option_that_the_server_refuses_is_left_out(tmp_path: Path) -> None:
    options = ModelOptions.model_validate({"reasoning": {"effort": "low"}})
    with OpenAIServer("yes", rejects=("reasoning_effort",)) as server:
        settings = settings_for(tmp_path, server.model(), limits=ONCE)
        settings = replace(settings, options={server.model(): options})
        (outcome,) = answers(server.model(), settings, [question(1)]).values()
    assert isinstance(outcome, Completion)
