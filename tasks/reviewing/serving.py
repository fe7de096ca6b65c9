"""Serving the review page on this machine only, under an address that nobody can guess."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from schemas.errors import InputError
from tasks.reviewing.desk import Desk

LOOPBACK = "127.0.0.1"


def serve(desk: Desk, *, token: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted. `announce` is called with the address once connections are accepted."""
    import uvicorn

    from tasks.reviewing.app import create_app
    from tasks.reviewing.guard import Guard

    listening = listen(port)
    host = f"{LOOPBACK}:{listening.getsockname()[1]}"
    app = Guard(create_app(desk), token=token, hosts={host, host.replace(LOOPBACK, "localhost")})
    # The access log would hold the token.
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=2
    )
    announce(f"http://{host}/{token}/")
    uvicorn.Server(config).run(sockets=[listening])


def listen(port: int) -> socket.socket:
    """A socket that accepts connections from this machine; port 0: any that is free."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise InputError(
            f"port {port} cannot be used: {error.strerror}", hint="name another with --port, or 0 for any"
        ) from error
    return listening


def keep_token(path: Path) -> str:
    """The token of this workspace, made on first use and readable by its owner alone. It stays, so that a
    page that is open in a browser goes on working when the server is started again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        token = path.read_text(encoding="ascii").strip()
        if len(token) >= 32:
            return token
        path.unlink()
        return keep_token(path)
    token = secrets.token_urlsafe(32)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(token)
    return token
