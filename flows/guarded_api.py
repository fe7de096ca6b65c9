"""The Prefect server behind a guard: it answers requests of its own addresses and its own page only.

A web page in the browser of the user can send requests to every server on the computer. So a request is
refused if it names another host (DNS rebinding) or comes from a page of another origin. Requests also need
the password of the server, which Prefect itself checks.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOSTS_VARIABLE = "COUNTERFOIL_API_HOSTS"
"""Further addresses of the server, such as `prefect:4200`, separated by commas."""


class OriginGuard:
    """Refuse requests with a foreign `Host` or `Origin`."""

    def __init__(self, app: App, hosts: Iterable[str]) -> None:
        """Wrap an application.

        Args:
            app: The ASGI application.
            hosts: Allowed addresses, `host:port`.
        """
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)
        self.origins = frozenset(f"{scheme}://{host}" for host in self.hosts for scheme in ("http", "https"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it with status 403."""
        if scope["type"] not in ("http", "websocket") or self.is_allowed(scope["headers"]):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = b"this address or page may not use the server\n"
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def is_allowed(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return whether the headers name an allowed host, and no foreign origin."""
        values: dict[bytes, list[str]] = {}
        for name, value in headers:
            values.setdefault(name.lower(), []).append(value.decode("latin-1").lower())
        hosts, origins = values.get(b"host", []), values.get(b"origin", [])
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return False
        if any(origin not in self.origins for origin in origins):
            return False
        return "cross-site" not in values.get(b"sec-fetch-site", [])


def allowed_hosts(port: int) -> list[str]:
    """Return the addresses of the server: loopback, and those of `COUNTERFOIL_API_HOSTS`."""
    further = os.environ.get(HOSTS_VARIABLE, "").split(",")
    return [
        f"127.0.0.1:{port}",
        f"localhost:{port}",
        f"[::1]:{port}",
        *(h.strip() for h in further if h.strip()),
    ]


def main() -> None:
    """Run the server. It refuses to start on an open address without a password."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4200)
    arguments = parser.parse_args()
    if not os.environ.get("PREFECT_SERVER_API_AUTH_STRING", "").partition(":")[2]:
        parser.error("set PREFECT_SERVER_API_AUTH_STRING to user:password")
    # Pages of other origins get no permission from the server either.
    os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = f"http://127.0.0.1:{arguments.port}"
    os.environ["PREFECT_SERVER_API_HOST"] = arguments.host
    os.environ["PREFECT_SERVER_API_PORT"] = str(arguments.port)
    import uvicorn
    from prefect.server.api.server import create_app

    app = OriginGuard(create_app(), allowed_hosts(arguments.port))
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning", server_header=False)


if __name__ == "__main__":
    main()
