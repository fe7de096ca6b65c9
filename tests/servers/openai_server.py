"""A real HTTP server that speaks the OpenAI chat protocol, for tests: loopback, free port, own thread.

    with OpenAIServer("Paris") as server:                   # every answer is "Paris"
        ...  f"openai:test-model@{server.url}"              # server.url is "http://127.0.0.1:PORT/v1"
        server.requests[0].body["messages"]                 # received requests, with their headers

**Answers.** The first argument is the answer: a `str`, a `dict` (sent as JSON text), a `Reply` (with
logprobs, a refusal, usage), or a function `(messages, body) -> str | dict | Reply`. The function is called
once per choice, in the thread of the server. Without an answer, the text is a hash of the messages and the
seed, and a request with a JSON schema gets its smallest valid instance.

    def judge(messages: Messages, body: Body) -> Answer:
        return {"score": 5 if "rude" in messages[-1]["content"] else 1}

**Logprobs.** `Reply("A", top=({"A": -0.1, "B": -2.4},))` has one mapping per token, with the ln p of its
alternatives. They are sent only if the request asks for them.

**Faults** are planted. `faults=` is a sequence with one entry per request, in order of arrival, or a function
`(number, body) -> Fault | Iterable[Fault] | None` with the number of the request from 0, or
`storm(rate, *faults, seed=…)`. Several faults of one request are combined: `(delay(0.1), status(503))`.

    OpenAIServer("yes", faults=[status(429, retry_after="1"), DISCONNECT, None, MALFORMED])
    OpenAIServer("yes", faults=storm(0.3, status(429), status(500), TRUNCATED, seed=7))

`raw(body, code, **headers)` sends any response, `message(content=…)` an answer with exactly these fields
of the message, and `endless()` a body without an end.

**Switches.** `api_key="…"` requires a key. `rejects=("seed",)` answers 400 to requests with that parameter.
`latency_s` delays all answers. The server reports `models`, `owned_by` and `revision`. `models_status` is
the status of the models route. `scores=` adds the completions route: a function from a text to the ln p of
its tokens except the first. `word_scores=` does the same for the words of a text (`WordTokenizer`), adds the
routes of a tokenizer, and answers `prompt_logprobs` of the chat route.
`embeddings=` adds the embeddings route: a function from a text to its vector.
`rerank=` adds the routes of a cross-encoder: a function from a query and a passage to a score.
`batches=` adds files and batches (see `batch_routes`). `peak_in_flight` is the largest number of requests in
progress at once. `answered` counts the answers of the chat route with status 200.

**A hidden limit.** `limit=HiddenLimit(600)` accepts this number of requests per minute (a token bucket of one
second) and answers 429 beyond it, with or without `Retry-After`. Its `per_minute` may change while the server
runs. `refused` counts the refusals.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

from aiohttp import web

from tests.servers.batch_routes import BatchRoutes
from tests.servers.word_tokenizer import END, WordTokenizer

Messages = list[dict[str, Any]]
Body = dict[str, Any]

FaultKind = Literal[
    "delay",
    "status",
    "html_error",
    "disconnect",
    "disconnect_after_headers",
    "slow_drip",
    "hang",
    "truncated",
    "malformed",
    "refusal",
    "content_filter",
    "polite_refusal",
    "null_content",
    "no_choices",
    "wrong_id",
    "no_usage",
    "no_logprobs",
    "cut_off",
    "leak_key",
    "raw",
    "endless",
]


@dataclass(frozen=True)
class Fault:
    """A fault of one request."""

    kind: FaultKind
    seconds: float = 0.0
    code: int = 500
    retry_after: str | None = None
    location: str | None = None
    message: str = "something went wrong"
    param: str | None = None
    error_code: str | None = None
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def raw(body: object, code: int = 200, **headers: str) -> Fault:
    """Return a response with this body: bytes and text as they are, anything else as JSON.

    Underscores in the names of headers stand for hyphens.
    """
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Fault("raw", code=code, body=body, headers=named)


def message(code: int = 200, finish_reason: str = "stop", usage: object = None, **fields: object) -> Fault:
    """Return an answer with exactly these fields in its message."""
    choice = {"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish_reason}
    usage = usage or {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    return raw({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}, code)


def endless(encoding: str = "") -> Fault:
    """Return a 200 with an endless body. With `gzip` it is compressed."""
    return Fault("endless", message=encoding)


def delay(seconds: float) -> Fault:
    """Delay the answer."""
    return Fault("delay", seconds=seconds)


def status(
    code: int,
    *,
    retry_after: str | None = None,
    message: str = "something went wrong",
    param: str | None = None,
    error_code: str | None = None,
) -> Fault:
    """Return an error status with an OpenAI error body. `retry_after` is the text of the header."""
    return Fault(
        "status", code=code, retry_after=retry_after, message=message, param=param, error_code=error_code
    )


def moved(location: str) -> Fault:
    """Redirect the request to another address."""
    return Fault("status", code=307, location=location)


def html_error(code: int = 502) -> Fault:
    """Return an error page, as a proxy sends it."""
    return Fault("html_error", code=code)


def slow_drip(seconds: float) -> Fault:
    """Send the body in small pieces over this number of seconds."""
    return Fault("slow_drip", seconds=seconds)


DISCONNECT = Fault("disconnect")
"""Close the connection before any answer."""
DISCONNECT_AFTER_HEADERS = Fault("disconnect_after_headers")
HANG = Fault("hang")
"""Never answer."""
TRUNCATED = Fault("truncated")
"""A 200 with a truncated JSON body."""
MALFORMED = Fault("malformed")
"""A 200 with a web page as body."""
REFUSAL = Fault("refusal")
"""`message.refusal` is set and the content is null."""
CONTENT_FILTER = Fault("content_filter")
"""`finish_reason` is `content_filter` and the content is empty."""
POLITE_REFUSAL = Fault("polite_refusal")
"""An ordinary answer that declines in words."""
NULL_CONTENT = Fault("null_content")
NO_CHOICES = Fault("no_choices")
WRONG_ID = Fault("wrong_id")
"""Id, object and model are wrong."""
NO_USAGE = Fault("no_usage")
NO_LOGPROBS = Fault("no_logprobs")
CUT_OFF = Fault("cut_off")
"""The text stops in the middle, with `finish_reason` `length`."""
LEAK_KEY = Fault("leak_key")
"""A 400 that repeats the request's own Authorization header."""

POLITE_REFUSAL_TEXT = "I'm sorry, but I can't help with that."


@dataclass(frozen=True)
class Reply:
    """An answer with more than its text."""

    text: str | None
    refusal: str | None = None
    finish_reason: str = "stop"
    top: tuple[dict[str, float], ...] = ()
    """For each token, the ln p of its alternatives, most likely first. By default, derived from the text."""
    usage: tuple[int, int] | None = None
    """Tokens in and out. By default, the numbers of words."""


@dataclass
class HiddenLimit:
    """An unannounced limit of requests per minute."""

    per_minute: float
    says_when: bool = True
    """Whether a refusal has a `Retry-After`."""
    _level: float = 1.0
    _updated: float = 0.0

    def refusal(self, now: float) -> Fault | None:
        """Return whether a request is accepted now, or gets a 429."""
        per_second = self.per_minute / 60
        self._level = min(max(1.0, per_second), self._level + (now - self._updated) * per_second)
        self._updated = now
        if self._level >= 1:
            self._level -= 1
            return None
        wait = f"{(1 - self._level) / per_second:.3f}" if self.says_when else None
        return status(429, retry_after=wait, message="rate limit reached")


Answer = str | dict[str, Any] | Reply
Script = Answer | Callable[[Messages, Body], Answer]
Faults = Sequence[Fault | Iterable[Fault] | None] | Callable[[int, Body], Fault | Iterable[Fault] | None]


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    number: int
    path: str
    headers: dict[str, str]
    """Headers, with lower-case names."""
    body: Body


def storm(rate: float, *faults: Fault, seed: int = 0) -> Callable[[int, Body], Fault | None]:
    """Return faults that each request has with this probability. Equal seeds give equal faults."""

    def strike(number: int, body: Body) -> Fault | None:
        dice = random.Random(f"{seed}/{number}")
        return dice.choice(faults) if dice.random() < rate else None

    return strike


def smallest_instance(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Any:
    """Return the smallest value that fits a strict JSON schema."""
    root = root or schema
    if "$ref" in schema:
        return smallest_instance(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return smallest_instance(schema["anyOf"][0], root)
    kind = schema.get("type")
    if kind == "object":
        return {name: smallest_instance(part, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [smallest_instance(schema.get("items", {}), root) for _ in range(schema.get("minItems", 0))]
    return {"string": "", "integer": 0, "number": 0.0, "boolean": False}.get(str(kind))


def hashed_answer(messages: Messages, body: Body) -> Answer:
    """Return the answer of a server without a script, which depends only on messages and seed."""
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema:
        instance: dict[str, Any] = smallest_instance(schema)
        return instance
    text = json.dumps([messages, body.get("seed")], sort_keys=True)
    return f"answer {hashlib.sha256(text.encode()).hexdigest()[:12]}"


class OpenAIServer:
    """A model server for tests. The module describes it."""

    def __init__(
        self,
        answer: Script = hashed_answer,
        *,
        faults: Faults = (),
        api_key: str | None = None,
        rejects: Sequence[str] = (),
        latency_s: float = 0.0,
        models: Sequence[str] = ("test-model",),
        revision: str = "test-model-2026-01-01",
        models_status: int = 200,
        owned_by: str | None = None,
        scores: Callable[[str], Sequence[float]] | None = None,
        word_scores: Callable[[str], Sequence[float]] | None = None,
        limit: HiddenLimit | None = None,
        embeddings: Callable[[str], Sequence[float]] | None = None,
        rerank: Callable[[str, str], float | None] | None = None,
        rerank_routes: Sequence[str] = ("score", "rerank"),
        batches: BatchRoutes | None = None,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.faults = faults
        self.api_key = api_key
        self.rejects = tuple(rejects)
        self.latency_s = latency_s
        self.models = tuple(models)
        self.revision = revision
        self.models_status = models_status
        self.owned_by = owned_by
        self.scores = scores
        self.word_scores = word_scores
        self.tokenizer = WordTokenizer()
        self.limit = limit
        self.embeddings = embeddings
        self.rerank, self.rerank_routes = rerank, tuple(rerank_routes)
        self.batches = batches or BatchRoutes(accepts=False)
        self.requests: list[Received] = []
        """Chat requests, in order of arrival."""
        self.other_requests: list[Received] = []
        """Requests of all other routes."""
        self.answered = 0
        self.refused = 0
        self.peak_in_flight = 0
        self.port = port
        """Port. 0 means any free port."""
        self._in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="openai-server", daemon=True)
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Return the endpoint, with `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def model(self, name: str = "test-model") -> str:
        """Return the full name of a model: `openai:<name>@<url>`."""
        return f"openai:{name}@{self.url}"

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("the test server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        if self.scores is not None:
            app.router.add_post("/v1/completions", self._score)
        if self.word_scores is not None:
            app.router.add_post("/v1/completions", self._score_words)
            app.router.add_get("/tokenizer_info", self._tokenizer_info)
            app.router.add_post("/tokenize", self._tokenize)
        if self.embeddings is not None:
            app.router.add_post("/v1/embeddings", self._embed)
        for route in self.rerank_routes if self.rerank is not None else ():
            app.router.add_post(f"/v1/{route}", self._score_passages)
        if self.batches.accepts:
            self.batches.add_to(app, self._answer_line, self._unauthorised)
        app.router.add_route("*", "/{rest:.*}", self._unknown)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, backlog=4096)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self.other_requests.append(_received(len(self.other_requests), request, {}))
        if self._unauthorised(request):
            return _error(401, "Incorrect API key provided")
        if self.models_status != 200:
            return web.Response(status=self.models_status, text="no list of models here")
        owner = {} if self.owned_by is None else {"owned_by": self.owned_by}
        return web.json_response(
            {"object": "list", "data": [{"id": m, "object": "model", **owner} for m in self.models]}
        )

    async def _score(self, request: web.Request) -> web.StreamResponse:
        """Return the prompt and one more token, with the ln p of each token except the first."""
        body: Body = json.loads(await request.read())
        self.other_requests.append(_received(len(self.other_requests), request, body))
        assert self.scores is not None
        given = [None, *self.scores(body["prompt"])]
        echoed = bool(body.get("echo"))
        logprobs = {"token_logprobs": [*(given if echoed else ()), -1.0]} if body.get("logprobs") else None
        choice = {"index": 0, "text": (body["prompt"] if echoed else "") + " and", "logprobs": logprobs}
        usage = {"prompt_tokens": len(given), "completion_tokens": 1}
        return web.json_response({"model": self.revision, "choices": [choice], "usage": usage})

    async def _score_words(self, request: web.Request) -> web.StreamResponse:
        """Return the ln p of each word of texts or lists of tokens, and of one more word."""
        body: Body = json.loads(await request.read())
        self.other_requests.append(_received(len(self.other_requests), request, body))
        assert self.word_scores is not None
        given = body["prompt"]
        many = given if isinstance(given[0], list) else [given]
        choices = []
        for i, prompt in enumerate(many):
            text = prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt)
            starts = text.startswith(END)
            scores = list(self.word_scores(text.removeprefix(END)))
            costs = [None, *(scores if starts else scores[1:]), -1.0]
            words = [*self.tokenizer.words(text), " and"]
            top = [None if c is None else {w: c} for w, c in zip(words, costs, strict=True)]
            logprobs = {"token_logprobs": costs, "top_logprobs": top, "tokens": words}
            choices.append({"index": i, "text": f"{text} and", "logprobs": logprobs})
        return web.json_response({"model": self.revision, "choices": choices})

    async def _tokenizer_info(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"eos_token": END, "bos_token": END, "tokenizer_class": "words"})

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        body: Body = json.loads(await request.read())
        tokens = self.tokenizer.encode(body["prompt"])
        return web.json_response({"tokens": tokens, "count": len(tokens)})

    def _prompt_logprobs(self, body: Body) -> list[dict[str, Any] | None]:
        """Return the ln p of each word of the last message as vLLM does, between two other tokens."""
        assert self.word_scores is not None
        text = body["messages"][-1]["content"]
        words, scores = self.tokenizer.words(text), self.word_scores(text)
        found = [("<user>", -9.0), *zip(words, scores, strict=True), ("</user>", -9.0)]
        return [None] + [
            {str(i): {"logprob": ln_p, "rank": 1, "decoded_token": word}}
            for i, (word, ln_p) in enumerate(found)
        ]

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        """Return the vector of each input in reverse order, because clients must use `index`."""
        body: Body = json.loads(await request.read())
        self.other_requests.append(_received(len(self.other_requests), request, body))
        if self._unauthorised(request):
            return _error(401, "Incorrect API key provided")
        assert self.embeddings is not None
        data = [
            {"object": "embedding", "index": i, "embedding": list(self.embeddings(text))}
            for i, text in enumerate(body["input"])
        ]
        used = sum(len(text.split()) for text in body["input"])
        usage = {"prompt_tokens": used, "total_tokens": used}
        return web.json_response(
            {"object": "list", "model": body["model"], "data": data[::-1], "usage": usage}
        )

    async def _score_passages(self, request: web.Request) -> web.StreamResponse:
        """Return the scores of passages for a query, the last first. `None` leaves a passage out."""
        body: Body = json.loads(await request.read())
        self.other_requests.append(_received(len(self.other_requests), request, body))
        if self._unauthorised(request):
            return _error(401, "Incorrect API key provided")
        assert self.rerank is not None
        is_score = request.path.endswith("/score")
        query = body["text_1"] if is_score else body["query"]
        texts = body["text_2"] if is_score else body["documents"]
        scores = [(i, self.rerank(query, text)) for i, text in enumerate(texts)][::-1]
        name = "score" if is_score else "relevance_score"
        found = [{"index": i, name: score} for i, score in scores if score is not None]
        return web.json_response({"model": body["model"], "data" if is_score else "results": found})

    async def _answer_line(self, body: Body) -> tuple[int, dict[str, Any]]:
        """Return the answer to one line of a batch."""
        for name in self.rejects:
            if body.get(name) is not None:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                return 400, {"error": {"message": message, "param": name}}
        return 200, self._payload(body, {})

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        self.other_requests.append(_received(len(self.other_requests), request, {}))
        return _error(404, "there is no such route")

    def _unauthorised(self, request: web.Request) -> bool:
        return self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}"

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body: Body = json.loads(await request.read())
        received = _received(len(self.requests), request, body)
        self.requests.append(received)
        self._in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self._in_flight)
        try:
            return await self._respond(request, received)
        finally:
            self._in_flight -= 1

    async def _respond(self, request: web.Request, received: Received) -> web.StreamResponse:
        refusal = self.limit.refusal(asyncio.get_running_loop().time()) if self.limit else None
        if refusal is not None:
            self.refused += 1
            broken = await _break(request, {"status": refusal})
            assert broken is not None
            return broken
        faults = {fault.kind: fault for fault in self._faults_of(received)}
        if self.latency_s or "delay" in faults:
            await asyncio.sleep(self.latency_s + (faults["delay"].seconds if "delay" in faults else 0))
        if self._unauthorised(request):
            return _error(401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}")
        for name in self.rejects:
            if received.body.get(name) is not None:
                return _error(400, f"Unsupported parameter: '{name}' is not supported with this model.", name)
        broken = await _break(request, faults)
        if broken is not None:
            return broken
        payload = json.dumps(self._payload(received.body, faults)).encode()
        return await self._send(request, payload, faults)

    def _faults_of(self, received: Received) -> tuple[Fault, ...]:
        if callable(self.faults):
            found = self.faults(received.number, received.body)
        else:
            found = self.faults[received.number] if received.number < len(self.faults) else None
        if found is None:
            return ()
        return (found,) if isinstance(found, Fault) else tuple(found)

    async def _send(
        self, request: web.Request, payload: bytes, faults: dict[FaultKind, Fault]
    ) -> web.StreamResponse:
        if "malformed" in faults:
            return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")
        if "truncated" in faults:
            return web.Response(body=payload[: len(payload) // 2], content_type="application/json")
        if "disconnect_after_headers" in faults or "slow_drip" in faults:
            return await self._send_in_pieces(request, payload, faults)
        self.answered += 1
        return web.Response(body=payload, content_type="application/json")

    async def _send_in_pieces(
        self, request: web.Request, payload: bytes, faults: dict[FaultKind, Fault]
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Content-Length": str(len(payload))}
        )
        await response.prepare(request)
        await response.write(payload[:10])
        if "disconnect_after_headers" in faults:
            _close(request)
            return response
        pieces = 10
        size = max(1, -(-len(payload[10:]) // pieces))
        for start in range(10, len(payload), size):
            await asyncio.sleep(faults["slow_drip"].seconds / pieces)
            await response.write(payload[start : start + size])
        self.answered += 1
        return response

    def _payload(self, body: Body, faults: dict[FaultKind, Fault]) -> dict[str, Any]:
        replies = [_spoiled(self._reply(body), faults) for _ in range(body.get("n") or 1)]
        with_logprobs = bool(body.get("logprobs")) and "no_logprobs" not in faults
        payload: dict[str, Any] = {
            "id": "chatcmpl-test",
            "object": "chat.completion",
            "created": 0,
            "model": self.revision,
            "system_fingerprint": "fp_test",
            "choices": [_choice(i, reply, body, with_logprobs) for i, reply in enumerate(replies)],
            "usage": _usage(body, replies),
        }
        if body.get("prompt_logprobs") and self.word_scores is not None:
            payload["prompt_logprobs"] = self._prompt_logprobs(body)
        if "no_choices" in faults:
            del payload["choices"]
        if "no_usage" in faults:
            del payload["usage"]
        if "wrong_id" in faults:
            payload |= {"id": 17, "object": "surprise", "model": None}
        return payload

    def _reply(self, body: Body) -> Reply:
        answer = self.answer(body["messages"], body) if callable(self.answer) else self.answer
        if isinstance(answer, Reply):
            return answer
        return Reply(answer if isinstance(answer, str) else json.dumps(answer))


def _received(number: int, request: web.Request, body: Body) -> Received:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Received(number, request.path, headers, body)


def _error(code: int, message: str, param: str | None = None, error_code: str | None = None) -> web.Response:
    error = {"message": message, "type": "test_error", "param": param, "code": error_code}
    return web.json_response({"error": error}, status=code)


async def _break(request: web.Request, faults: dict[FaultKind, Fault]) -> web.StreamResponse | None:
    """Return the response of a fault that replaces the answer, or `None`."""
    if "hang" in faults:
        await asyncio.Event().wait()
    if "disconnect" in faults:
        _close(request)
        return web.Response()
    if "raw" in faults:
        fault = faults["raw"]
        return web.Response(status=fault.code, body=fault.body, headers=dict(fault.headers))
    if "endless" in faults:
        return await _send_endlessly(request, faults["endless"].message)
    if "leak_key" in faults:
        return _error(400, f"bad request with Authorization: {request.headers.get('Authorization')}")
    if "html_error" in faults:
        page = "<html><head><title>Bad gateway</title></head><body>nginx</body></html>"
        return web.Response(status=faults["html_error"].code, text=page, content_type="text/html")
    if "status" in faults:
        fault = faults["status"]
        response = _error(fault.code, fault.message, fault.param, fault.error_code)
        if fault.retry_after is not None:
            response.headers["Retry-After"] = fault.retry_after
        if fault.location is not None:
            response.headers["Location"] = fault.location
        return response
    return None


async def _send_endlessly(request: web.Request, encoding: str) -> web.StreamResponse:
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": encoding} if encoding else {})
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    packer = zlib.compressobj(wbits=31)
    while True:
        part = b" " * 1_000_000
        await response.write((packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)) if encoding else part)
        await asyncio.sleep(0)


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _spoiled(reply: Reply, faults: dict[FaultKind, Fault]) -> Reply:
    if "refusal" in faults:
        return Reply(None, refusal=POLITE_REFUSAL_TEXT)
    if "content_filter" in faults:
        return Reply("", finish_reason="content_filter")
    if "polite_refusal" in faults:
        return Reply(POLITE_REFUSAL_TEXT)
    if "null_content" in faults:
        return replace(reply, text=None, top=())
    if "cut_off" in faults and reply.text:
        return replace(reply, text=reply.text[: len(reply.text) * 2 // 3], finish_reason="length", top=())
    return reply


def _choice(index: int, reply: Reply, body: Body, with_logprobs: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": index,
        "message": {"role": "assistant", "content": reply.text, "refusal": reply.refusal},
        "finish_reason": reply.finish_reason,
        "logprobs": None,
    }
    if with_logprobs:
        tops = reply.top or tuple({token: -0.1} for token in _words(reply.text))
        limit = body.get("top_logprobs") or 0
        choice["logprobs"] = {"content": [_token(top, limit) for top in tops], "refusal": None}
    return choice


def _words(text: str | None) -> list[str]:
    first, *rest = (text or "").split(" ")
    return [first, *(f" {word}" for word in rest)]


def _token(top: dict[str, float], limit: int) -> dict[str, Any]:
    ranked = sorted(top.items(), key=lambda item: -item[1])
    entries = [{"token": t, "logprob": lp, "bytes": list(t.encode())} for t, lp in ranked]
    return {**entries[0], "top_logprobs": entries[:limit]}


def _usage(body: Body, replies: list[Reply]) -> dict[str, int]:
    counted = [
        r.usage or (sum(len(str(m["content"]).split()) for m in body["messages"]), len(_words(r.text)))
        for r in replies
    ]
    tokens_in, tokens_out = counted[0][0], sum(out for _, out in counted)
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
