"""Models behind an OpenAI-compatible server: OpenAI, vLLM, TGI, llama.cpp, Ollama, OpenRouter.

Chat completions are posted directly over a connection pool with the address, headers and key of the openai
client. The objects that the client creates and copies per call cost more CPU time than the call itself.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from schemas.recipe import Limits
from tasks.models.capabilities import capabilities_of, read_refusal, with_adapted
from tasks.models.names import OPENAI_ENDPOINT, is_loopback, origin
from tasks.models.openai_format import (
    error_in_answer,
    has_reasoning,
    read_completion,
    read_model_names,
    read_owner,
    request_body,
    score_text,
)
from tasks.models.protocol import Completion, FailedAttempt, Request
from tasks.models.server_errors import (
    SMALL_BODY,
    causes,
    connection_fix,
    error_object,
    is_before_request,
    is_moderation,
    kind_of,
    likely_fix,
    retry_delay_s,
    stops_all,
)
from tasks.run.retries import parse_retry_after
from tasks.text.printable import printable
from tasks.text.redaction import redact_secrets

if TYPE_CHECKING:
    import aiohttp
    import httpx2
    import openai


CONNECT_S = 30.0
MAX_ANSWER_MB: float = Limits().max_answer_mb
KEEP_ALIVE_S = 4.0
"""Servers close idle connections after 5 s or more. A connection that closes while we send costs an
attempt."""


class Reply(NamedTuple):
    """A server's response, whatever its status."""

    status: int
    content: bytes
    retry_after: str | None
    date: str | None = None
    """The server's own clock, to compare a `Retry-After` with."""
    location: str | None = None
    """Target of a redirect."""


class AnswerTooLargeError(Exception):
    """An answer exceeded the limit. The rest of it was not read."""


class Wire:
    """A pool of connections to one server. Belongs to the event loop of its first use."""

    def __init__(self, client: openai.AsyncOpenAI, connections: int, max_bytes: int) -> None:
        self._client = client
        self._url = f"{client.base_url}chat/completions"
        self._connections = connections
        self._max_bytes = max_bytes
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, client: openai.AsyncOpenAI, connections: int, max_bytes: int) -> Wire | None:
        """Return a pool for the client's server, or `None` if the client must use a proxy."""
        return None if _behind_a_proxy(str(client.base_url)) else cls(client, connections, max_bytes)

    async def post(self, body: dict[str, Any]) -> Reply:
        """Make one call. Redirects are not followed.

        Raises:
            AnswerTooLargeError: If the decompressed answer exceeds the limit.
            aiohttp.ClientError: If the connection fails.
            OSError: If the connection fails.
        """
        session = self._session or self._open()
        async with session.post(self._url, data=_as_json(body), allow_redirects=False) as response:
            content = bytearray()
            async for part in response.content.iter_any():
                content += part
                if len(content) > self._max_bytes:
                    response.close()
                    raise AnswerTooLargeError
            headers = response.headers
            return Reply(
                response.status,
                bytes(content),
                headers.get("retry-after"),
                headers.get("date"),
                headers.get("location"),
            )

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


class OpenAIChat:
    """One model of one server. Belongs to the event loop of its first use."""

    def __init__(
        self,
        name: str,
        endpoint: str,
        *,
        api_key: str | None,
        connections: int,
        schema_prompt: str,
        key_variable: str | None = None,
        max_answer_mb: float = MAX_ANSWER_MB,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.capabilities = capabilities_of(endpoint, name)
        self._api_key = api_key or NO_KEY
        self._key_variable = key_variable
        self._schema_prompt = schema_prompt
        self._connections = connections
        self._max_bytes = int(max_answer_mb * 1_000_000)
        self._learning = asyncio.Lock()

    @cached_property
    def _client(self) -> openai.AsyncOpenAI:
        """Created on the first call, so that nothing is imported if the cache has every answer."""
        return chat_client(self.endpoint, self._api_key, self._connections, self._max_bytes)

    @cached_property
    def _wire(self) -> Wire | None:
        return Wire.of(self._client, self._connections, self._max_bytes)

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Make one attempt.

        A parameter that the server does not support is left out from then on, and the call repeated.
        """
        if (request.decoding.choices or request.score_prompt) and (failure := await self._learn_owner()):
            return failure
        if request.score_prompt:
            root = self.endpoint.removesuffix("/v1")
            return await score_text(request, self.name, self.capabilities.owner, self.post_json, root)
        while True:
            body = request_body(self.name, request, self.capabilities, self._schema_prompt)
            response = await self._post(body)
            if isinstance(response, FailedAttempt):
                return response
            payload = _json(response)
            status, error = response.status, dict[str, Any]()
            if status < 300:
                failed = error_in_answer(payload)
                if failed is None:
                    return with_adapted(self._read(response, payload, request), self.capabilities, request)
                status, error = failed
            elif status >= 400:
                error = _error_of(response, payload)
            if is_moderation(status, error):
                return _filtered(request)
            refusal = read_refusal(status, error, body)
            if refusal is None or not self.capabilities.give_up(refusal, body):
                return self._failure(response._replace(status=status), error, len(_as_json(body)))

    async def _learn_owner(self) -> FailedAttempt | None:
        """Ask the server once for its kind: only some can be restricted to choices."""
        async with self._learning:
            if self.capabilities.owner is None:
                response = await self._send("GET", "/models", None)
                if isinstance(response, FailedAttempt):
                    return response
                self.capabilities.owner = (
                    read_owner(_json(response), self.name) if response.status < 300 else ""
                )
        return None

    async def list_models(self) -> tuple[int, tuple[str, ...]] | FailedAttempt:
        """Return the HTTP status of `GET /models` and the listed names, to check a server without costs."""
        response = await self._send("GET", "/models", None)
        if isinstance(response, FailedAttempt):
            return response
        return response.status, read_model_names(_json(response)) if response.status < 300 else ()

    async def close(self) -> None:
        """Close the connections."""
        if "_wire" in vars(self) and self._wire is not None:
            await self._wire.close()
        if "_client" in vars(self):
            await self._client.close()

    async def post_json(self, path: str, body: dict[str, Any]) -> Any:
        """Post to another route than chat and return its JSON, or a failure."""
        response = await self._send("POST", path, body)
        if isinstance(response, FailedAttempt):
            return response
        payload = _json(response)
        if response.status >= 300:
            failure = self._failure(response, _error_of(response, payload), SMALL_BODY)
            return replace(failure, stops=False, no_route=True) if response.status in (404, 405) else failure
        if payload is None and response.content.strip() != b"null":
            return self._malformed(response)
        if (failed := error_in_answer(payload)) is not None:
            status, error = failed
            return self._failure(response._replace(status=status), error, SMALL_BODY)
        return payload

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
            return self._lost_connection(error)
        except AnswerTooLargeError as error:
            return self._lost_connection(error)

    def _lost_connection(self, error: BaseException) -> FailedAttempt:
        original = list(causes(error))
        if any(isinstance(cause, AnswerTooLargeError) for cause in original):
            return FailedAttempt(
                "too_large",
                f"{self._place} sent an answer of more than {self._max_bytes / 1e6:g} MB",
                final=True,
                may_be_billed=True,
                hint="read the server's log; if its answers are this long, raise `limits.max_answer_mb`",
            )
        fix = connection_fix(error, self.endpoint)
        return FailedAttempt(
            "connection",
            f"the connection to {self._place} failed ({_describe_error(original)})",
            may_be_billed=not is_before_request(error),
            stops=fix is not None,
            hint=fix,
        )

    def _read(self, response: Reply, payload: Any, request: Request) -> Completion | FailedAttempt:
        if payload is None:
            return self._malformed(response)
        result = read_completion(payload, request)
        if not self.capabilities.reasoning and has_reasoning(payload):
            self.capabilities.reasoning = True
        if isinstance(result, FailedAttempt):
            return replace(result, message=f"{self._place}: {result.message}")
        return result

    def _malformed(self, response: Reply) -> FailedAttempt:
        message = f"{self._place} answered {response.status} without valid JSON"
        return FailedAttempt("malformed", message, may_be_billed=True)

    def _failure(self, response: Reply, error: dict[str, Any], body_size: int) -> FailedAttempt:
        status = response.status
        if 300 <= status < 400:
            return self._redirected(response)
        kind = kind_of(status, error)
        reason = self._clean(str(error.get("message") or ""))
        stops = stops_all(status, error, body_size)
        wait = parse_retry_after(response.retry_after, _server_time(response.date))
        return FailedAttempt(
            kind,
            f"{self._place} answered {status}" + (f": {reason}" if reason else ""),
            final=stops or kind in ("bad_request", "unauthorized", "quota"),
            retry_after_s=retry_delay_s(error) if wait is None else wait,
            overload=status in (408, 503, 529),
            stops=stops,
            hint=likely_fix(
                status,
                error,
                endpoint=self.endpoint,
                model=self.name,
                key_variable=self._key_variable,
            ),
        )

    def _redirected(self, response: Reply) -> FailedAttempt:
        target = urljoin(self.endpoint, response.location or "")
        place = origin(target) if urlsplit(target).netloc else "another address"
        return FailedAttempt(
            "bad_request",
            f"{self._place} answered {response.status} and redirects to {self._clean(place)}; redirects are "
            "not followed, because the prompt and the key would go with them",
            final=True,
            stops=True,
            hint=likely_fix(response.status, {}, endpoint=self.endpoint, model=self.name, key_variable=None),
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
    return printable(" ".join(text.split()))[:300]


@lru_cache(maxsize=1)
def import_client() -> None:
    """Import the client packages. This takes more than half a second and must not count towards a timeout."""
    for name in ("aiohttp", "httpx2", "openai"):
        importlib.import_module(name)


def chat_client(endpoint: str, api_key: str, connections: int, max_bytes: int) -> openai.AsyncOpenAI:
    """Return a client without its own retries and timeouts. It follows no redirects, and reads `max_bytes`.

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
        follow_redirects=False,
        event_hooks={"response": [partial(_read_within, max_bytes)]},
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


async def _read_within(max_bytes: int, response: httpx2.Response) -> None:
    """Read an answer up to the limit, before the client reads it without one."""
    size = 0
    parts = []
    async for part in response.aiter_bytes():
        size += len(part)
        if size > max_bytes:
            await response.aclose()
            raise AnswerTooLargeError
        parts.append(part)
    response._content = b"".join(parts)


def _reply(response: httpx2.Response) -> Reply:
    headers = response.headers
    return Reply(
        response.status_code,
        response.content,
        headers.get("retry-after"),
        headers.get("date"),
        headers.get("location"),
    )


def _describe_error(chain: Sequence[BaseException]) -> str:
    """Return the original cause: this transport reports a closed connection as a timeout."""
    cause = chain[-1]
    detail = getattr(cause, "verify_message", None) or getattr(cause, "reason", None)
    return f"{type(cause).__name__}: {detail}" if isinstance(detail, str) else type(cause).__name__


def _server_time(date: str | None) -> float:
    """Return the server's clock as Unix time, or this machine's if the server does not state it."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else time.time()
    except (TypeError, ValueError, OverflowError):
        return time.time()


def _error_of(response: Reply, payload: Any) -> dict[str, Any]:
    """Return the error object of a response, or its plain text. Empty for an HTML page."""
    if payload is not None:
        return error_object(payload)
    text = response.content[:2000].decode("utf-8", "replace").strip()
    return {} if text.startswith("<") else {"message": text}


def _as_json(body: dict[str, Any]) -> bytes:
    import orjson

    try:
        return orjson.dumps(body)
    except TypeError:  # a lone surrogate
        return json.dumps(body).encode()


def _json(response: Reply) -> Any:
    """Return the body, or `None` if it is not JSON.

    A byte order mark, NaN, a bad byte or a lone surrogate does not lose an answer.
    """
    import orjson

    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(response.content.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _filtered(request: Request) -> Completion:
    """Return a refusal: the server's content filter stopped the prompt."""
    return Completion(request.tag, "", "content_filter", None, 0, 0, 0.0, False, refusal=True)
