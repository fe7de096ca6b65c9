"""The short way to a chat completion: the openai client's address, headers and key, without the objects that
it makes and copies for every call, which cost more than the call itself.

Retries, limits and types are the layers' above; a proxy from the environment is the client's business, so
where one stands in between there is no short way (`Wire.of` is `None`).
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tasks.models.names import is_loopback

if TYPE_CHECKING:
    import aiohttp
    import openai

CONNECT_S = 30.0
KEPT_ALIVE_S = 4.0
"""Servers close idle connections after 5 s and more; one that closes as we send costs a try."""


class Reply(NamedTuple):
    """What a server answered, whatever its status."""

    status: int
    content: bytes
    retry_after: str | None


class Wire:
    """A pool of connections to one server. Belongs to the event loop that it is first used in."""

    def __init__(self, client: openai.AsyncOpenAI, connections: int) -> None:
        self._client = client
        self._url = f"{client.base_url}chat/completions"
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, client: openai.AsyncOpenAI, connections: int) -> Wire | None:
        """The short way to the client's server, where there is one."""
        return None if _behind_a_proxy(str(client.base_url)) else cls(client, connections)

    async def post(self, body: dict[str, Any]) -> Reply:
        """One call. Raises `aiohttp.ClientError` or `OSError` where the connection fails."""
        import orjson

        session = self._session or self._open()
        async with session.post(self._url, data=orjson.dumps(body)) as response:
            return Reply(response.status, await response.read(), response.headers.get("retry-after"))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        given = self._client.default_headers.items()
        headers = {name: value for name, value in given if isinstance(value, str)}
        connector = aiohttp.TCPConnector(
            limit=self._connections, keepalive_timeout=KEPT_ALIVE_S, ssl=tls_context()
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
    """Which certificates are trusted, as the openai client has it; read once, because that takes a while."""
    import httpx2

    return httpx2.create_ssl_context()


def _behind_a_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), getproxies()
    if is_loopback(url) or not parts.hostname or proxy_bypass(parts.hostname):
        return False
    return parts.scheme in proxies or "all" in proxies
