"""Behaviours of real servers and their handling. Each row is a public report, played over HTTP.

A row has the behaviour of the server, the outcome of the call, the words that the user sees, and the number
of requests. `stops` means that the stage ends with a `ModelError` (exit code 5) after the calls in flight.
"""

from __future__ import annotations

import errno
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ModelError
from schemas.recipe import Limits
from tasks.models.capabilities import read_capabilities
from tasks.models.protocol import Completion, Decoding, Failure, JsonSchema, Message, Outcome, Request
from tasks.models.server_errors import is_before_request
from tests.servers.openai_server import Body, Fault, OpenAIServer, Reply, endless, message, moved, raw, status
from tests.tasks.models.asking import answers, settings_for

LIMITS = Limits(max_in_flight=4, timeout_s=5, attempts=3, patience_s=2.0, outage_s=0.5, max_answer_mb=1.0)
SCHEMA = JsonSchema("Verdict", {"type": "object", "properties": {"score": {"type": "integer"}}})
Rule = Callable[[int, Body], Fault | None]


def request(number: int = 0, *, temperature: float = 0.0, json_schema: JsonSchema | None = None) -> Request:
    """Return a request that uses every feature: system role, temperature, seed, logprobs."""
    decoding = Decoding(30, temperature=temperature, seed=7, top_logprobs=20)
    messages = (Message("system", "Be brief."), Message("user", f"question {number}"))
    return Request(f"t{number}", messages, decoding, json_schema=json_schema)


def always(fault: Fault) -> Rule:
    return lambda number, body: fault


def once(fault: Fault) -> Rule:
    return lambda number, body: fault if number == 0 else None


def unless(accepts: Callable[[Body], bool], fault: Fault) -> Rule:
    """Return the fault until a request is acceptable."""
    return lambda number, body: None if accepts(body) else fault


def without(*names: str) -> Callable[[Body], bool]:
    return lambda body: not any(body.get(name) is not None for name in names)


def no_system(body: Body) -> bool:
    return all(m["role"] != "system" for m in body["messages"])


def error(text: str, http: int = 400, **fields: Any) -> Fault:
    return raw({"error": {"message": text, **fields}}, http)


@dataclass(frozen=True)
class Case:
    """One behaviour of a server."""

    name: str
    rule: Rule
    outcome: str
    """`answer`, `refusal`, a kind of failure, or `stops`."""
    words: str = ""
    """Words of the message or the hint, or the change that is kept with the run."""
    sent: int = 1
    """Requests that the one call takes."""
    schema: bool = False


ANSWERS = [
    # vllm-project/vllm#52640: reasoning used the length up; content is null
    Case("only reasoning, cut off", always(message(content=None, reasoning="Hm", finish_reason="length")),
         "truncated_reasoning", "length limit"),
    # vllm-project/vllm#17357: the answer is in reasoning_content, content is empty
    Case("only reasoning_content", always(message(content="", reasoning_content="Yes")), "empty",
         "only reasoning", 3),
    # codelibs/fess#3061: blank content with finish_reason length
    Case("blank and cut off", always(message(content=" \n", finish_reason="length")),
         "truncated_reasoning", "", 1),
    # 1CatAI/1Cat-vLLM#47: a think block that is never closed
    Case("an open think block", always(message(content="<think>So", finish_reason="length")),
         "truncated_reasoning", "only reasoning"),
    # mindcraft-bots/mindcraft#789: a closed think block and nothing after it
    Case("a think block alone", always(message(content="<think>Yes.</think>\n")), "empty",
         "only reasoning", 3),
    # diegosouzapw/OmniRoute#12696: a tool call although no tool was declared
    Case("only tool calls",
         always(message(content=None, tool_calls=[{"id": "1"}], finish_reason="tool_calls")),
         "empty", "tool calls", 3),
    # mindcraft-bots/mindcraft#789: an empty answer, and a good one at the next try
    Case("empty once", once(message(content="")), "answer", "", 2),
    # decolua/9router#2727: choices are null in a 200
    Case("choices are null", always(raw({"choices": None})), "malformed", "no choice", 3),
    # langgenius/dify#9249: OpenRouter answers 200 with an error object and without choices
    Case("error in a 200, then fine", once(raw({"error": {"code": 502, "message": "Provider down"}})),
         "answer", "", 2),
    # deeterbleater/deertick#13: the same with an unknown model
    Case("unknown model in a 200",
         always(raw({"error": {"code": 400, "message": "Model x is not available"}})), "stops",
         "Model x is not available"),
    # basicallysource/sorter-v2#599: OpenRouter without credits
    Case("no credits in a 200", always(raw({"error": {"code": 402, "message": "Insufficient credits"}})),
         "stops", "add credit"),
    # made up: vLLM's older form of an error, and Google's list, both in a 200
    Case("error without a key in a 200",
         always(raw({"object": "error", "message": "CUDA out of memory", "code": 50001})), "server",
         "CUDA out of memory", 3),
    Case("list of errors in a 200",
         always(raw([{"error": {"code": 402, "message": "Insufficient credits"}}])), "stops", "add credit"),
    # maximhq/bifrost#5425: OpenRouter reports an error of its provider as finish_reason
    Case("finish_reason error", once(message(content="Ye", finish_reason="error")), "answer", "", 2),
    # NousResearch/hermes-agent#4748: Mistral's content in parts, with reasoning in one of them
    Case("content in parts", always(message(content=[
         {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
         {"type": "text", "text": "Yes"}])), "answer"),
    # genkit-ai/genkit#6259: DeepSeek's finish reason if it is out of resources
    Case("out of resources",
         once(message(content="Ye", finish_reason="insufficient_system_resource")), "answer", "", 2),
]  # fmt: skip

REFUSALS = [
    # openai/openai-python#331: Azure's filter stops the prompt
    Case("Azure content filter",
         always(error("The response was filtered", 400, code="content_filter", param="prompt")), "refusal"),
    # BerriAI/litellm#16231: the same behind a gateway, in innererror
    Case("Azure inner error",
         always(error("filtered", 400, code="400", innererror={"code": "ResponsibleAIPolicyViolation"})),
         "refusal"),
    # enricoros/big-AGI#352: OpenRouter's moderation
    Case("OpenRouter moderation",
         always(error("requires moderation", 403, code=403, metadata={"reasons": ["self-harm"]})), "refusal"),
    # camel-ai/owl#432: DashScope
    Case("DashScope inspection",
         always(error("Input data may contain inappropriate content.", 400, code="data_inspection_failed")),
         "refusal"),
    # QwenLM/qwen-code#2905: DashScope's other form
    Case("DashScope algorithm error",
         always(error("<400> InternalError.Algo.DataInspectionFailed: Input text data", 400)), "refusal"),
    # deepseek-ai/DeepSeek-V2#30
    Case("DeepSeek risk", always(raw({"detail": "Content Exists Risk"}, 400)), "refusal"),
    # anomalyco/opencode#44092: a filter of z.AI as finish_reason
    Case("finish_reason sensitive", always(message(content="", finish_reason="sensitive")), "refusal"),
    # 666ghj/BettaFish#108: the same in OpenAI's form
    Case("DeepSeek risk, wrapped",
         always(error("Content Exists Risk", 400, type="invalid_request_error")), "refusal"),
]  # fmt: skip

STOPS = [
    # bespokelabsai/curator#203: a wrong key, tried again for every entry
    Case("wrong key", always(error("Incorrect API key provided", 401)), "stops", "check OPENAI_API_KEY"),
    # basicallysource/sorter-v2#599
    Case("no credit", always(error("Insufficient credits", 402)), "stops", "add credit"),
    # InsForge/InsForge#611: OpenRouter's limit of a key as a 403
    Case("key limit", always(error("Key limit exceeded", 403)), "stops", "valid for"),
    # langchain-ai/langchainjs#1929: a quota that looks like a rate limit
    Case("insufficient_quota as code", always(error("You exceeded your current quota", 429,
         code="insufficient_quota")), "stops", "current quota"),
    # the same as type only
    Case("insufficient_quota as type", always(error("You exceeded your current quota", 429,
         type="insufficient_quota", code=None)), "stops", "current quota"),
    # google-gemini/gemini-cli#10925: Gemini's quota per day
    Case("Gemini per day", always(raw([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED",
         "message": "Quota exceeded", "details": [{"violations": [
             {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}], 429)),
         "stops", "Quota exceeded"),
    # anthropics/claude-code#66314: no credit as a 400
    Case("Anthropic credit", always(error("Your credit balance is too low to access the API.", 400)),
         "stops", "credit balance is too low"),
    # netease-youdao/QAnything#555: Ollama has not downloaded the model
    Case("Ollama without the model", always(error('model "m" not found, try pulling it first', 404)),
         "stops", "ollama pull test-model"),
    # ollama/ollama#2474: the path is wrong
    Case("no such path", always(raw("404 page not found", 404)), "stops", "ends with /v1"),
    # otwld/ollama-helm#61: a plain text error
    Case("error as text", always(raw({"error": "model 'm' not found, try pulling it first"}, 404)),
         "stops", "try pulling it first"),
    # open-webui/open-webui#3273: a proxy allows no request at all
    Case("413 from nginx", always(raw("<html><h1>413 Request Entity Too Large</h1></html>", 413)),
         "stops", "of the proxy before it"),
    # songquanpeng/one-api#533: a 307 in place of an answer
    Case("redirect", always(moved("https://elsewhere.example/v1/chat/completions")), "stops",
         "redirects to https://elsewhere.example"),
]  # fmt: skip

NEGOTIATED = [
    # gabrii/Cursor-Azure-GPT-5#33: GPT-5 accepts only its own temperature
    Case("temperature is fixed", unless(without("temperature"), error(
         "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
         "supported.", 400, param="temperature", code="unsupported_value")), "answer",
         "temperature 0 requested, server default used", 2),
    # ai-forever/gigachain#237: zero is out of range
    Case("temperature above zero", unless(without("temperature"), raw(
         {"status": 422, "message": "Invalid params: temperature must be in range (0, +inf)"}, 422)),
         "answer", "temperature 0 requested", 2),
    # Vali-98/ChatterUI#564: Claude accepts temperature or top_p
    Case("temperature or top_p", unless(without("top_p"), error(
         "`temperature` and `top_p` cannot both be specified for this model. Please use only one.", 400,
         type="invalid_request_error")), "answer", "top_p 1 requested, server default used", 2),
    # skydiscover-ai/skydiscover#15: the same behind LiteLLM and Bedrock
    Case("temperature or top_p, quoted", unless(without("top_p"), error(
         'litellm.BadRequestError: BedrockException - {"message":"The model returned the following errors: '
         '`temperature` and `top_p` cannot both be specified for this model. Please use only one."}', 400)),
         "answer", "top_p 1 requested", 2),
    # opencyvis/opencyvis-phone#12: Kimi
    Case("only one temperature", unless(without("temperature"), error(
         "invalid temperature: only 1 is allowed for this model", 400, type="invalid_request_error")),
         "answer", "temperature 0 requested", 2),
    # MartialBE/one-hub#529: Claude, if it thinks
    Case("temperature of thinking", unless(without("temperature"), error(
         "`temperature` may only be set to 1 when thinking is enabled.", 400)), "answer",
         "temperature 0 requested", 2),
    # songquanpeng/one-api#1141: GLM, in Chinese
    Case("temperature in Chinese", unless(without("temperature"), error(
         "temperature参数非法。请检查文档。", 400, code="1214")), "answer", "temperature 0 requested", 2),
    # argilla-io/synthetic-data-generator#48: TGI does not accept 1
    Case("top_p below one", unless(without("top_p"), raw({"error":
         "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"}, 422)),
         "answer", "top_p 1 requested", 2),
    # nicepkg/aide#26: neither does DashScope
    Case("range of top_p", unless(without("top_p"), error(
         "Range of top_p should be (0.0, 1.0)", 400, code="invalid_parameter_error", param=None)),
         "answer", "top_p 1 requested", 2),
    # ChatGPTBox-dev/chatGPTBox#838
    Case("max_completion_tokens", unless(without("max_tokens"), error(
         "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
         "'max_completion_tokens' instead.", 400, param="max_tokens", code="unsupported_parameter")),
         "answer", "", 2),
    # partITech/php-mistral#76: FastAPI's list of problems
    Case("FastAPI seed", unless(without("seed"), raw({"detail": [{"type": "extra_forbidden",
         "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, 422)), "answer",
         "seed requested", 2),
    # crewAIInc/crewAI#60: the same inside message
    Case("FastAPI in message", unless(without("seed"), raw({"object": "error", "message": {"detail": [
         {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}},
         422)), "answer", "seed requested", 2),
    # mistralai/platform-docs-public#7: the same as quoted JSON
    Case("FastAPI quoted", unless(without("seed"), raw({"object": "error", "message": json.dumps(
         {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}),
         "code": "1000"}, 422)), "answer", "seed requested", 2),
    # vllm-project/vllm#3657: pydantic's list as text
    Case("pydantic as text", unless(without("seed"), raw({"object": "error", "code": 400, "message":
         "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted'}]"},
         400)), "answer", "seed requested", 2),
    # groq/groq-python#25
    Case("no logprobs", unless(without("logprobs", "top_logprobs"), error(
         "`logprobs` is not supported with this model", 400)), "answer", "log-probabilities requested", 2),
    # mscraftsman/generative-ai#135: Gemini's words
    Case("logprobs not enabled", unless(without("logprobs", "top_logprobs"), error(
         "Logprobs is not enabled for models/gemini-2.5-pro", 400)), "answer",
         "log-probabilities requested", 2),
    # vllm-project/vllm#5299: fewer alternatives than asked for
    Case("at most 5 logprobs", unless(lambda body: body.get("top_logprobs", 0) <= 5, error(
         "Requested sample logprobs of 20, which is greater than max allowed: 5", 400)), "answer",
         "at most 5 allowed", 2),
    # vllm-project/vllm#2964: Gemma's template
    Case("Gemma system role", unless(no_system, raw({"object": "error", "message":
         "System role not supported", "type": "BadRequestError", "code": 400}, 400)), "answer",
         "system role refused", 2),
    # sgl-project/sglang#892: the same as a 500
    Case("Gemma system role, 500", unless(no_system, error("System role not supported", 500)), "answer",
         "system role refused", 2),
    # microsoft/autogen#1037: Mistral's template
    Case("Mistral roles", unless(no_system, error(
         "Conversation roles must alternate user/assistant/user/assistant/...", 400)), "answer",
         "system role refused", 2),
    # Mintplex-Labs/anything-llm#2914
    Case("only user and assistant", unless(no_system, error(
         "Only user and assistant roles are supported!", 500)), "answer", "system role refused", 2),
    # microsoft/vscode#258088: Google's Gemma, in a list
    Case("developer instruction", unless(no_system, raw([{"error": {"code": 400, "message":
         "Developer instruction is not enabled for models/gemma-3-27b-it"}}], 400)), "answer",
         "system role refused", 2),
    # tailcallhq/forgecode#1177: o1-mini
    Case("o1 system role", unless(no_system, error(
         "Unsupported value: 'messages[0].role' does not support 'system' with this model.", 400,
         param="messages[0].role", code="unsupported_value")), "answer", "system role refused", 2),
    # predibase/lorax#215: with status 424
    Case("LoRAX roles", unless(no_system, raw({"error": "Request failed during generation: Server error: "
         "Conversation roles must alternate user/assistant", "error_type": "generation"}, 424)), "answer",
         "system role refused", 2),
    # UKGovernmentBEIS/inspect_ai#4916: DeepSeek knows JSON mode only
    Case("DeepSeek format", unless(lambda b: b.get("response_format", {}).get("type") != "json_schema",
         error("This response_format type is unavailable now", 400)), "answer",
         "json_schema refused, schema in the prompt with JSON mode", 2, schema=True),
    # langgenius/dify#8994: an old version of Azure's API
    Case("Azure format", unless(lambda b: b.get("response_format", {}).get("type") != "json_schema",
         error("response_format value as json_schema is enabled only for api versions 2024-08-01-preview and "
               "later", 400, code="BadRequest")), "answer", "with JSON mode", 2, schema=True),
    # cline/cline#7897: Gemini, if the schema is large
    Case("Gemini schema", unless(lambda b: b.get("response_format", {}).get("type") != "json_schema",
         error("The specified schema produces a constraint that has too many states for serving.", 400,
               status="INVALID_ARGUMENT")), "answer", "with JSON mode", 2, schema=True),
    # dzhng/deep-research#127: Groq
    Case("Groq format", unless(lambda b: b.get("response_format", {}).get("type") != "json_schema",
         error("'response_format.type' : value is not one of the allowed values ['text','json_object']",
               400)), "answer", "with JSON mode", 2, schema=True),
    # epuerta9/deep-research-py#19: OpenAI's form of a refused value
    Case("supported values", unless(lambda b: b.get("response_format", {}).get("type") != "json_schema",
         error("Invalid value: 'json_schema'. Supported values are: 'json_object' and 'text'.", 400,
               param="response_format.type")), "answer", "with JSON mode", 2, schema=True),
    # lmstudio-ai/lmstudio-bug-tracker#169, for a server that knows only text
    Case("only text", unless(without("response_format"),
         raw({"error": "'response_format.type' must be 'text'"}, 400)), "answer",
         "json_object refused, schema in the prompt", 3, schema=True),
    # BerriAI/litellm#6610: xAI has no response_format at all
    Case("xAI format", unless(without("response_format"), raw({"code": "Client specified an invalid argument",
         "error": "The response_format parameter is unsupported at the moment. Leave it unset."}, 400)),
         "answer", "json_schema refused, schema in the prompt", 2, schema=True),
]  # fmt: skip

BYTES = [
    # made up: a byte order mark before the JSON
    Case("byte order mark", always(raw(b"\xef\xbb\xbf" + message(content="Yes").body)), "answer"),
    # dphnAI/sonar#183: logprobs of minus infinity, which is no JSON
    Case("minus infinity", always(raw(message(content="Yes").body.replace(b'"finish_reason"',
         b'"logprobs": {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": '
         b'[{"token": "No", "logprob": -Infinity}]}]}, "finish_reason"'))), "answer"),
    # sgl-project/sglang#5984: NaN
    Case("NaN", always(raw(message(content="Yes").body.replace(b'"finish_reason"',
         b'"logprobs": {"content": [{"token": "Yes", "logprob": NaN}]}, "finish_reason"'))), "answer"),
    # made up: a byte that is no UTF-8, as from a token that was cut in the middle
    Case("a bad byte", always(raw(message(content="Yes!").body.replace(b"!", b"\xf0\x9f"))), "answer"),
    # elizaOS/eliza#18079: half of an emoji (there in a request)
    Case("a lone surrogate", always(raw(message(content="Yes!").body.replace(b"!", b"\\ud83d"))), "answer"),
    # made up: an answer without an end
    Case("an endless answer", always(endless()), "too_large", "more than 1 MB"),
    # made up: the same compressed, which a limit on the bytes sent does not notice
    Case("an endless compressed answer", always(endless("gzip")), "too_large", "more than 1 MB"),
]  # fmt: skip

CASES = [*ANSWERS, *REFUSALS, *STOPS, *NEGOTIATED, *BYTES]


def play(case: Case, place: Path) -> tuple[Outcome | ModelError, list[Body], str]:
    """Return the outcome, the requests that the server received, and the capabilities kept with the run."""

    def script(messages: object, body: Body) -> Reply:
        return Reply('{"score": 1}' if case.schema else "Yes", top=({"Yes": -0.1, "No": -2.5},))

    with OpenAIServer(script, faults=case.rule) as server:
        settings = settings_for(place, server.model(), limits=LIMITS)
        asked = [request(json_schema=SCHEMA if case.schema else None)]
        outcome: Outcome | ModelError
        try:
            (outcome,) = answers(server.model(), settings, asked).values()
        except ModelError as stopped:
            outcome = stopped
        kept = json.dumps(read_capabilities(settings.run_dir))
        return outcome, [r.body for r in server.requests], kept


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_behaviour_has_the_documented_outcome(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    outcome, sent, kept = play(case, tmp_path)
    assert kind_of(outcome) == case.outcome, outcome
    assert case.words in (kept if isinstance(outcome, Completion) else words_of(outcome))
    assert len(sent) == case.sent
    if isinstance(outcome, Completion) and outcome.text:
        assert outcome.text.startswith(("Yes", '{"score"'))


def kind_of(outcome: Outcome | ModelError) -> str:
    if isinstance(outcome, ModelError):
        assert outcome.exit_code == 5
        return "stops"
    if isinstance(outcome, Failure):
        return outcome.kind
    return "refusal" if outcome.refusal else "answer"


def words_of(outcome: Outcome | ModelError) -> str:
    return outcome.message if isinstance(outcome, Failure) else str(outcome)


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


# Many calls: when to stop, and what is spent until then


def many(server: OpenAIServer, place: Path, count: int = 200, **limits: Any) -> dict[str, Outcome]:
    changed = LIMITS.model_copy(update={"max_in_flight": 64, **limits})
    settings = settings_for(place, server.model(), limits=changed)
    return answers(server.model(), settings, requests(count))


def requests(count: int) -> Iterable[Request]:
    return (request(number) for number in range(count))


@pytest.mark.parametrize("code", [401, 402, 403, 404])
def test_a_wrong_key_or_address_costs_one_request(tmp_path: Path, code: int) -> None:
    with OpenAIServer("Yes", faults=always(error("no", code))) as server:
        with pytest.raises(ModelError):
            many(server, tmp_path)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "most"),
    [
        (message(content=""), "empty", 40),
        (message(content=None, reasoning="Hm", finish_reason="length"), "truncated_reasoning", 20),
        (error("Something is wrong with this request"), "bad_request", 20),
        (status(500), "server", 60),
    ],
)
def test_a_probe_of_20_calls_that_all_fail_in_one_way_stops_the_stage(
    tmp_path: Path, fault: Fault, kind: str, most: int
) -> None:
    with OpenAIServer("Yes", faults=always(fault)) as server:
        with pytest.raises(ModelError, match="the first 20 calls all failed in the same way") as caught:
            many(server, tmp_path)
        assert len(server.requests) <= most
    assert f"({kind})" in str(caught.value)


def test_a_probe_with_one_answer_continues(tmp_path: Path) -> None:
    def rule(number: int, body: Body) -> Fault | None:
        return None if number % 10 == 9 else error("not this one")

    with OpenAIServer("Yes", faults=rule) as server:
        found = many(server, tmp_path, 100)
    assert sum(isinstance(outcome, Completion) for outcome in found.values()) == 10


def test_a_quota_that_ends_in_the_middle_loses_no_answer(tmp_path: Path) -> None:
    def rule(number: int, body: Body) -> Fault | None:
        return error("no more", 429, code="insufficient_quota") if number >= 50 else None

    with OpenAIServer("Yes", faults=rule, latency_s=0.02) as server:
        with pytest.raises(ModelError, match="no more"):
            many(server, tmp_path, 500, max_in_flight=8)
        assert len(server.requests) <= 50 + 8
        server.faults = ()
        answered = server.answered
        assert len(many(server, tmp_path, 500, max_in_flight=8)) == 500
        assert server.answered == 500, f"{answered} answers were kept"


def test_a_server_that_refuses_everything_is_given_up_after_a_while(tmp_path: Path) -> None:
    rule = lambda number, body: status(429) if number >= 5 else None  # noqa: E731
    with (
        OpenAIServer("Yes", faults=rule) as server,
        pytest.raises(ModelError, match=r"no call has succeeded for \d s"),
    ):
        many(server, tmp_path, attempts=50)


def test_a_dated_retry_after_is_compared_with_the_clock_of_the_server(tmp_path: Path) -> None:
    wait = raw(
        {"error": {"message": "slow down"}}, 429,
        Date="Wed, 01 Jan 2025 10:00:00 GMT", Retry_After="Wed, 01 Jan 2025 10:00:01 GMT",
    )  # fmt: skip
    with OpenAIServer("Yes", faults=once(wait)) as server:
        found = many(server, tmp_path, 1)
    assert all(isinstance(outcome, Completion) for outcome in found.values())


def test_an_answer_without_content_is_never_cached(tmp_path: Path) -> None:
    with OpenAIServer("Yes", faults=lambda n, b: message(content="") if n < 3 else None) as server:
        (first,) = many(server, tmp_path, 1).values()
        (second,) = many(server, tmp_path, 1).values()
    assert isinstance(first, Failure)
    assert (first.kind, first.tokens_out) == ("empty", 12)
    assert isinstance(second, Completion)


@pytest.mark.parametrize("endpoint", ["https://127.0.0.1", "http://no-such-host.invalid:9"])
def test_a_connection_that_cannot_work_stops_at_once(tmp_path: Path, endpoint: str) -> None:
    with OpenAIServer("Yes") as server:
        name = f"openai:m@{endpoint}:{server.port}/v1" if "127" in endpoint else f"openai:m@{endpoint}/v1"
        with pytest.raises(ModelError, match=r"write http://|no such host|connection") as caught:
            answers(name, settings_for(tmp_path, name, limits=LIMITS), requests(3))
    assert "failed" in str(caught.value)


# Through a proxy, another client sends the calls


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Callable[[OpenAIServer], str]:
    """Return a function that puts a server in the place of a proxy, and returns the name of a far model."""

    def use(server: OpenAIServer) -> str:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        return "openai:test-model@http://models.example:8000/v1"

    return use


@pytest.mark.parametrize("fault", [endless(), endless("gzip")])
def test_the_size_of_answers_is_limited_behind_a_proxy(
    tmp_path: Path, proxied: Callable[[OpenAIServer], str], fault: Fault
) -> None:
    with OpenAIServer("Yes", faults=once(fault)) as server:
        name = proxied(server)
        settings = settings_for(tmp_path, name, limits=LIMITS)
        first, second = (answers(name, settings, [request(n)])[f"t{n}"] for n in range(2))
    assert isinstance(first, Failure)
    assert first.kind == "too_large"
    assert isinstance(second, Completion)


def test_redirects_are_refused_behind_a_proxy(tmp_path: Path, proxied: Callable[[OpenAIServer], str]) -> None:
    with OpenAIServer("Yes", faults=always(moved("http://elsewhere.example/v1"))) as server:
        name = proxied(server)
        with pytest.raises(ModelError, match=r"redirects to http://elsewhere\.example"):
            answers(name, settings_for(tmp_path, name, limits=LIMITS), [request()])
        assert len(server.requests) == 1


# Connections that fail before anything was sent


@pytest.mark.parametrize(
    ("cause", "before"),
    [
        (ConnectionRefusedError(111, "refused"), True),
        (OSError(errno.ENETUNREACH, "no network"), True),
        (OSError(errno.EHOSTUNREACH, "no route"), True),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), True),
        (ssl.SSLCertVerificationError(1, "self-signed"), True),
        (ConnectionResetError(104, "reset"), False),
        (BrokenPipeError(32, "pipe"), False),
    ],
)
def test_nothing_was_asked_if_the_connection_never_came_about(cause: OSError, before: bool) -> None:
    with pytest.raises(RuntimeError) as wrapped:
        raise RuntimeError("connection error") from cause
    assert is_before_request(wrapped.value) is before


def test_an_untrusted_certificate_names_the_setting(tmp_path: Path) -> None:
    with tls_server(tmp_path) as port:
        name = f"openai:m@https://localhost:{port}/v1"
        with pytest.raises(ModelError, match="SSLCertVerificationError") as caught:
            answers(name, settings_for(tmp_path, name, limits=LIMITS), requests(3))
    assert "SSL_CERT_FILE" in str(caught.value)


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    """Serve TLS with a certificate that nobody trusts, and yield the port."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
