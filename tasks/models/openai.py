"""Models behind an OpenAI-compatible server: OpenAI, vLLM, TGI, llama.cpp, Ollama, OpenRouter.

Chat completions are posted directly over a connection pool with the address, headers and key of the openai
client. The objects that the client creates and copies per call cost more CPU time than the call itself.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import socket
import ssl
import time
from functools import cached_property, lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tasks.models.names import OPENAI_ENDPOINT, is_loopback, origin
from tasks.models.openai_format import (
    Dialect,
    read_completion,
    read_owner,
    refused_parameter,
    request_body,
    score_text,
)
from tasks.models.protocol import Completion, FailedAttempt, FailureKind, Request
from tasks.run.retries import parse_retry_after
from tasks.text.redaction import redact_secrets

if TYPE_CHECKING:
    import aiohttp
    import httpx2
    import openai


CONNECT_S = 30.0
KEEP_ALIVE_S = 4.0
"""Servers close idle connections after 5 s or more. A connection that closes while we send costs an
attempt."""


class Reply(NamedTuple):
    """A server's response, whatever its status."""

    status: int
    content: bytes
    retry_after: str | None


class Wire:
    """A pool of connections to one server. Belongs to the event loop of its first use."""

    def __init__(self, client: openai.AsyncOpenAI, connections: int) -> None:
        self._client = client
        self._url = f"{client.base_url}chat/completions"
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, client: openai.AsyncOpenAI, connections: int) -> Wire | None:
        """Return a pool for the client's server, or `None` if the client must use a proxy."""
        return None if _behind_a_proxy(str(client.base_url)) else cls(client, connections)

    async def post(self, body: dict[str, Any]) -> Reply:
        """Make one call.

        Raises:
            aiohttp.ClientError: If the connection fails.
            OSError: If the connection fails.
        """
        import orjson

        session = self._session or self._open()
        async with session.post(self._url, data=orjson.dumps(body)) as response:
            return Reply(response.status, await response.read(), response.headers.get("retry-after"))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        given = self._client.default_headers.items()
        headers = {name: value for name, value in given if isinstance(value, str)}
        connector = aiohttp.TCPConnector(
            limit=self._connections, keepalive_timeout=KEEP_ALIVE_S, ssl=tls_context()
        )
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._session


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Return the trusted certificates, as the openai client configures them.

    Read once, because that is slow.
    """
    import httpx2

    return httpx2.create_ssl_context()


def _behind_a_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), getproxies()
    if is_loopback(url) or not parts.hostname or proxy_bypass(parts.hostname):
        return False
    return parts.scheme in proxies or "all" in proxies


NO_KEY = "not-needed"
"""Sent if no key is configured. Many servers need none, and the protocol cannot omit it."""

_dialects: dict[tuple[str, str], Dialect] = {}
_dialects_lock = Lock()


def dialect_of(endpoint: str, name: str) -> Dialect:
    """Return this process's knowledge of a model's server."""
    with _dialects_lock:
        return _dialects.setdefault((endpoint, name), Dialect.of(endpoint))


class OpenAIChat:
    """One model of one server. Belongs to the event loop of its first use."""

    def __init__(
        self, name: str, endpoint: str, *, api_key: str | None, connections: int, schema_prompt: str
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self._api_key = api_key or NO_KEY
        self._schema_prompt = schema_prompt
        self._connections = connections
        self._learning = asyncio.Lock()
        self._dialect = dialect_of(endpoint, name)

    @cached_property
    def _client(self) -> openai.AsyncOpenAI:
        """Created on the first call, so that nothing is imported if the cache has every answer."""
        return chat_client(self.endpoint, self._api_key, self._connections)

    @cached_property
    def _wire(self) -> Wire | None:
        return Wire.of(self._client, self._connections)

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Make one attempt.

        A parameter that the server does not support is left out from then on, and the call repeated.
        """
        if (request.decoding.choices or request.score_prompt) and (failure := await self._learn_owner()):
            return failure
        if request.score_prompt:
            root = self.endpoint.removesuffix("/v1")
            return await score_text(request, self.name, self._dialect.owner, self._call, root)
        while True:
            body = request_body(self.name, request, self._dialect, self._schema_prompt)
            response = await self._post(body)
            if isinstance(response, FailedAttempt):
                return response
            if response.status < 400:
                return self._read(response, request)
            error = _error_of(response)
            if error.get("code") == "content_filter":
                return _filtered(request)
            parameter = refused_parameter(response.status, error, body)
            if parameter is None or not self._dialect.give_up(parameter, body):
                return self._failure(response, error)

    async def _learn_owner(self) -> FailedAttempt | None:
        """Ask the server once for its kind: only some can be restricted to choices."""
        async with self._learning:
            if self._dialect.owner is None:
                response = await self._send("GET", "/models", None)
                if isinstance(response, FailedAttempt):
                    return response
                self._dialect.owner = read_owner(_json(response), self.name) if response.status < 300 else ""
        return None

    async def models_status(self) -> int | FailedAttempt:
        """Return the HTTP status of `GET /models`, to check a server without costs."""
        response = await self._send("GET", "/models", None)
        return response if isinstance(response, FailedAttempt) else response.status

    async def close(self) -> None:
        """Close the connections."""
        if "_wire" in vars(self) and self._wire is not None:
            await self._wire.close()
        if "_client" in vars(self):
            await self._client.close()

    async def _call(self, path: str, body: dict[str, Any]) -> Any:
        """Post to another route and return its JSON, or a failure."""
        response = await self._send("POST", path, body)
        if isinstance(response, FailedAttempt):
            return response
        if response.status >= 400:
            return self._failure(response, _error_of(response))
        return _json(response)

    async def _post(self, body: dict[str, Any]) -> Reply | FailedAttempt:
        return await self._send("POST", "/chat/completions", body)

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Reply | FailedAttempt:
        """Return the raw response, whatever its status.

        Errors of the client contain request headers, so they end here.
        """
        import aiohttp
        import httpx2
        import openai

        try:
            if self._wire is not None and path == "/chat/completions" and body is not None:
                return await self._wire.post(body)
            call = self._client.get if method == "GET" else partial(self._client.post, body=body)
            return _reply(await call(path, cast_to=httpx2.Response))
        except openai.APIStatusError as error:
            return _reply(error.response)
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            cause = _root(error)
            message = f"the connection to {self._place} failed ({type(cause).__name__})"
            return FailedAttempt("connection", message, may_be_billed=not _never_sent(cause))

    def _read(self, response: Reply, request: Request) -> Completion | FailedAttempt:
        payload = _json(response)
        if payload is None:
            message = f"{self._place} answered {response.status} without valid JSON"
            return FailedAttempt("malformed", message, may_be_billed=True)
        return read_completion(payload, request)

    def _failure(self, response: Reply, error: dict[str, Any]) -> FailedAttempt:
        status = response.status
        exhausted = error.get("code") == "insufficient_quota"
        kind = _kind_of(status)
        reason = "" if kind == "unauthorized" else self._clean(str(error.get("message") or ""))
        return FailedAttempt(
            kind,
            f"{self._place} answered {status}" + (f": {reason}" if reason else ""),
            final=exhausted or kind in ("bad_request", "unauthorized"),
            retry_after_s=parse_retry_after(response.retry_after, time.time()),
            overload=status in (408, 503, 529),
        )

    @property
    def _place(self) -> str:
        return origin(self.endpoint)

    def _clean(self, text: str) -> str:
        return without_keys(text, self._api_key)


@lru_cache(maxsize=256)
def without_keys(text: str, api_key: str) -> str:
    """Return the text of a server without keys and query strings, shortened.

    Cached, because many failures repeat it.
    """
    text = redact_secrets(text[:4000], api_key)
    text = re.sub(r"(?i)\b(bearer|basic)\s+\S+", r"\1 ***", text)
    text = re.sub(r"\bsk-[\w*-]+", "***", text)
    text = re.sub(r"\?\S+", "?***", text)
    return " ".join(text.split())[:300]


@lru_cache(maxsize=1)
def import_client() -> None:
    """Import the client packages. This takes more than half a second and must not count towards a timeout."""
    for name in ("aiohttp", "httpx2", "openai"):
        importlib.import_module(name)


def chat_client(endpoint: str, api_key: str, connections: int) -> openai.AsyncOpenAI:
    """Return a client without its own retries and timeouts.

    Ours cover a whole attempt. `max_connections` must be a number: `None` means 100 with this transport.
    Proxies of the environment are not used for this machine, and the organisation headers of OpenAI are sent
    to OpenAI only.
    """
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    transport = openai.DefaultAioHttpClient(
        limits=limits,
        timeout=httpx2.Timeout(None, connect=30.0),
        trust_env=not is_loopback(endpoint),
        verify=tls_context(),
    )
    headers: dict[str, Any] = {"Authorization": f"Bearer {api_key}"}
    if origin(endpoint) != origin(OPENAI_ENDPOINT):
        headers |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
    return openai.AsyncOpenAI(
        api_key=api_key, base_url=endpoint, max_retries=0, http_client=transport, default_headers=headers
    )


def read_schema_prompt(data_dir: Path) -> str:
    """Return the text with `$schema` for the last message on servers without structured output."""
    from tasks.models.prompts import read_prompt

    return read_prompt(data_dir, "json_answer").user


def _reply(response: httpx2.Response) -> Reply:
    return Reply(response.status_code, response.content, response.headers.get("retry-after"))


def _root(error: BaseException) -> BaseException:
    """Return the original cause: this transport reports a closed connection as a timeout."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _never_sent(reason: BaseException) -> bool:
    return isinstance(reason, (ConnectionRefusedError, socket.gaierror))


def _kind_of(status: int) -> FailureKind:
    if status in (401, 403):
        return "unauthorized"
    if status == 408:
        return "timeout"
    if status in (425, 429):
        return "rate_limit"
    return "server" if status >= 500 else "bad_request"


def _error_of(response: Reply) -> dict[str, Any]:
    """Return the error object of a response, however the server wraps it. Empty for an HTML page."""
    payload = _json(response)
    if payload is None:
        return {}
    error = payload.get("error", payload) if isinstance(payload, dict) else payload
    return error if isinstance(error, dict) else {"message": error}


def _json(response: Reply) -> Any:
    """Return the body, or `None` if it is not JSON."""
    import orjson

    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None


def _filtered(request: Request) -> Completion:
    """Return a refusal: the server's content filter stopped the prompt."""
    return Completion(request.tag, "", "content_filter", None, 0, 0, 0.0, False, refusal=True)
