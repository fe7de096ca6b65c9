"""A cheap chat server on the loopback interface, in its own process, for measurements of clients.

    with Loopback(latency_s=0.05) as server: ...  server.url, server.counts()

The server implements only the part of HTTP/1.1 that the clients need. Every answer is the same 40 words.
`storm` gives the share of requests that fail, by kind of failure. The choice depends on the request's number.
`per_second` is an unannounced rate limit (a token bucket of one second). Requests beyond it get status 429.
`POST /set` changes both while the server runs.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from types import TracebackType
from typing import Any

STORM = {"429": 0.2, "500": 0.05, "disconnect": 0.05, "malformed": 0.05, "hang": 0.02}
WAIT_S = 1
"""Seconds in the header `Retry-After` of a 429 response."""


def encode_response(status: str, body: bytes, *headers: str) -> bytes:
    """Return a whole HTTP response."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 0,
    "model": "test-model-1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Take a walk. " * 13, "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 40, "completion_tokens": 40, "total_tokens": 80},
}
ANSWER = encode_response("200 OK", json.dumps(COMPLETION).encode())
MALFORMED = encode_response("200 OK", json.dumps(COMPLETION).encode()[:100])
BROKEN = encode_response("500 Internal Server Error", b'{"error": {"message": "something broke"}}')
TOO_MANY = b'{"error": {"message": "rate limit reached"}}'


class State:
    """Settings of the server, and counts of the requests so far."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.latency_s = float(options.get("latency_s", 0.0))
        self.storm: dict[str, float] = options.get("storm", {})
        self.per_second: float | None = options.get("per_second")
        self.retry_after = bool(options.get("retry_after", True))
        self.counts: Counter[str] = Counter()
        self._level, self._updated = self.per_second or 0.0, 0.0

    def next(self, now: float) -> str:
        """Count the next request and return its outcome: `answer`, `429` or a kind of failure."""
        self.counts["requests"] += 1
        if self.per_second is not None:
            self._level = min(self.per_second, self._level + (now - self._updated) * self.per_second)
            self._updated = now
            if self._level < 1:
                return "429"
            self._level -= 1
        dice = random.Random(self.counts["requests"]).random()
        for failure, share in self.storm.items():
            if dice < share:
                return failure
            dice -= share
        return "answer"


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Handle a request once all its bytes have arrived."""
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self.buffer[:end].lower().split(b"\r\n")
        length = next((int(x[15:]) for x in lines if x.startswith(b"content-length:")), 0)
        if len(self.buffer) < end + 4 + length:
            return
        body, self.buffer = self.buffer[end + 4 : end + 4 + length], b""
        self.receive(lines[0].split()[1], body)

    def receive(self, path: bytes, body: bytes) -> None:
        """Handle one request."""
        loop = asyncio.get_running_loop()
        if path == b"/counts":
            self.transport.write(encode_response("200 OK", json.dumps(self.state.counts).encode()))
        elif path == b"/set":
            vars(self.state).update(json.loads(body))
            self.transport.write(encode_response("200 OK", b"{}"))
        elif not path.endswith(b"/chat/completions"):
            self.transport.write(encode_response("200 OK", b'{"object": "list", "data": []}'))
        else:
            outcome = self.state.next(loop.time())
            self.state.counts[outcome] += 1
            if outcome != "hang":
                delay = 0.0 if outcome == "429" else self.state.latency_s
                loop.call_later(delay, self.respond, outcome)

    def respond(self, outcome: str) -> None:
        """Send the response of an outcome, or close the connection."""
        if self.transport.is_closing():
            return
        if outcome == "disconnect":
            self.transport.abort()
        elif outcome == "429":
            headers = [f"Retry-After: {WAIT_S}"] if self.state.retry_after else []
            self.transport.write(encode_response("429 Too Many Requests", TOO_MANY, *headers))
        else:
            self.transport.write({"500": BROKEN, "malformed": MALFORMED}.get(outcome, ANSWER))


async def serve(options: dict[str, Any]) -> None:
    """Print the port and serve until the process ends."""
    state = State(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Loopback:
    """Start the server in its own process and stop it at the end of the block."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __enter__(self) -> Loopback:
        command = [sys.executable, __file__, json.dumps(self._options)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self._root = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.url = f"{self._root}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def counts(self) -> Counter[str]:
        """Return the number of requests so far, in total and by outcome."""
        with urllib.request.urlopen(f"{self._root}/counts") as reply:
            return Counter(json.load(reply))

    def set(self, **options: Any) -> None:
        """Change settings while the server runs."""
        urllib.request.urlopen(f"{self._root}/set", data=json.dumps(options).encode()).close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
