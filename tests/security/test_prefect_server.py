"""The local Prefect server answers its own page with its token, and no other page of the browser."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli.pages import run_serve
from flows.guarded_api import OriginGuard, allowed_hosts
from flows.server import prefect_server, server_password
from flows.workspace import Workspace, open_workspace
from schemas.options import ServeOptions
from tests.browser import CHROMIUM, FLAGS, needs_browser
from tests.conftest import DATA
from tests.security.hostile import page_server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """Yield the port and the password of a running server."""
    workspace = Workspace(DATA, tmp_path_factory.mktemp("home"))
    before = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        with prefect_server(workspace, port):
            yield port, server_password(workspace)
    finally:
        os.environ.clear()
        os.environ.update(before)


def ask(
    port: int, path: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json", **named})
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def signed(password: str) -> str:
    return "Basic " + base64.b64encode(password.encode()).decode()


def count_flows(port: int, password: str) -> int:
    status, _, body = ask(port, "/api/flows/count", "POST", {}, Authorization=signed(password))
    assert status == 200
    return int(body)


@pytest.mark.slow
def test_requests_need_the_password(served: tuple[int, str]) -> None:
    port, password = served
    assert ask(port, "/api/flows/count", "POST", {})[0] == 401
    assert ask(port, "/api/flows/count", "POST", {}, Authorization=signed("counterfoil:x"))[0] == 401
    assert count_flows(port, password) == 0
    assert len(password.partition(":")[2]) >= 32


@pytest.mark.slow
@pytest.mark.parametrize("host", ["evil.example", "evil.example:4200", "127.0.0.1:1", "127.0.0.1"])
def test_other_hosts_are_refused(served: tuple[int, str], host: str) -> None:
    port, password = served
    assert ask(port, "/api/health", Host=host)[0] == 403
    assert ask(port, "/api/flows/count", "POST", {}, Host=host, Authorization=signed(password))[0] == 403


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_other_origins_are_refused(served: tuple[int, str], origin: str) -> None:
    port, password = served
    body = {"name": "planted"}
    status, headers, _ = ask(port, "/api/flows/", "POST", body, Origin=origin, Authorization=signed(password))
    assert status == 403
    assert "access-control-allow-origin" not in headers
    preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    status, headers, _ = ask(port, "/api/flows/", "OPTIONS", None, Origin=origin, **preflight)
    assert (status, headers.get("access-control-allow-origin")) == (403, None)
    assert count_flows(port, password) == 0


@pytest.mark.slow
def test_own_page_is_answered(served: tuple[int, str]) -> None:
    port, password = served
    own = f"http://127.0.0.1:{port}"
    assert ask(port, "/api/flows/count", "POST", {}, Origin=own, Authorization=signed(password))[0] == 200


@pytest.mark.slow
def test_server_listens_on_loopback_only(served: tuple[int, str]) -> None:
    """A server on all addresses would also answer on 127.0.0.2."""
    port, _ = served
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_serve_prints_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    monkeypatch.setattr("flows.server.serve", lambda *_, **__: None)
    run_serve(ServeOptions(), False)
    assert server_password(open_workspace()) in capsys.readouterr().err


def test_password_is_kept_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    workspace = Workspace(DATA, tmp_path)
    first = server_password(workspace)
    assert server_password(workspace) == first
    assert (tmp_path / "prefect" / ".token").stat().st_mode & 0o077 == 0


HOSTS = ("evil.example", "evil.example:4200", "127.0.0.1:1", "127.0.0.1", "127.0.0.1:4200.evil.example", "")
ORIGINS = (
    "http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "http://127.0.0.1:4200@evil.example",
    "http://127.0.0.1:4200.evil.example", "file://", "",
)  # fmt: skip
"""The slow tests send some of them to a running server."""


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("host", "origin", "is_answered"),
    [
        *((host, None, False) for host in HOSTS),
        *(("127.0.0.1:4200", origin, False) for origin in ORIGINS),
        ("127.0.0.1:4200", None, True),
        ("LOCALHOST:4200", "http://localhost:4200", True),
    ],
)
def test_requests_of_others_do_not_reach_the_server(
    kind: str, host: str, origin: str | None, is_answered: bool
) -> None:
    """The guard passes a request on or answers it, without Prefect behind it."""
    reached: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", host.encode())] + ([] if origin is None else [(b"origin", origin.encode())])
    guard = OriginGuard(app, allowed_hosts(4200))
    asyncio.run(guard({"type": kind, "headers": headers}, receive, send))
    assert reached == ([kind] if is_answered else [])
    refused = [m.get("status", m.get("code")) for m in sent][:1]
    assert refused == ([] if is_answered else [403 if kind == "http" else 1008])


def test_doubled_and_missing_hosts_are_refused() -> None:
    guard = OriginGuard(None, ["127.0.0.1:4200"])  # type: ignore[arg-type]
    good = (b"host", b"127.0.0.1:4200")
    assert guard.is_allowed([good])
    assert not guard.is_allowed([])
    assert not guard.is_allowed([good, (b"host", b"evil.example")])
    assert not guard.is_allowed([good, (b"sec-fetch-site", b"cross-site")])


ATTACK = """<script>
const api = "http://127.0.0.1:%d/api";
const headers = {"Content-Type": "application/json"};
const flow = JSON.stringify({name: "planted"});
async function attempt(name, ...request) {
  try {
    const answer = await fetch(...request);
    return [name, answer.type, answer.status, answer.type === "opaque" ? "" : await answer.text()];
  } catch (error) { return [name, "failed", 0, ""]; }
}
window.attacks = Promise.all([
  attempt("read", api + "/admin/version"),
  attempt("json", api + "/flows/", {method: "POST", body: flow, headers}),
  attempt("plain", api + "/flows/", {method: "POST", body: flow, mode: "no-cors"}),
  attempt("cookies", api + "/flows/", {method: "POST", body: flow, mode: "no-cors", credentials: "include"}),
]);
</script>"""


@pytest.mark.slow
@needs_browser
def test_page_of_another_origin_can_neither_read_nor_start_anything(served: tuple[int, str]) -> None:
    from playwright.sync_api import sync_playwright

    port, password = served
    rebinding = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    with page_server((ATTACK % port).encode()) as page_port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, rebinding])
        page = browser.new_page()
        page.goto(f"http://evil.example:{page_port}/")
        results = {name: rest for name, *rest in page.evaluate("window.attacks")}
        assert results["read"] == ["failed", 0, ""]
        assert results["json"] == ["failed", 0, ""]
        assert all(results[name][2] == "" for name in ("plain", "cookies"))
        # The name of the page now leads to the server itself (DNS rebinding).
        answer = page.goto(f"http://evil.example:{port}/api/admin/version")
        assert answer is not None
        assert answer.status == 403
        browser.close()
    assert count_flows(port, password) == 0


def deployed() -> tuple[dict[str, Any], Any]:
    """Return the parameters that a Prefect server knows for `relabel`, and its check of them."""
    from prefect.utilities.callables import parameter_schema
    from prefect.utilities.schema_tools.validation import validate

    from flows.deployed import relabel

    return parameter_schema(relabel).model_dump(), validate


KEY = "sk-" + "a1B2" * 8
PARAMETERS: dict[str, dict[str, Any]] = {
    "key in a field": {"extra_body": json.dumps({"note": KEY})},
    "name of a key": {"extra_body": '{"Api-Key": "x"}'},
    "bearer": {"extra_body": '{"header": "BEARER abcdefgh1"}'},
    "password in an address": {"judges": ["lexical", "openai:m@http://me:secret@localhost/v1"]},
    "key of the Hub": {"api_key_env": "hf_" + "a1B2" * 8},
    "writer": {"writer": "openai:m@https://me:secret@host/v1"},
    "free": {"free": [f"openai:m@http://host/{KEY}"]},
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_parameters_with_keys_are_refused_by_the_schema(kind: str) -> None:
    schema, validate = deployed()
    with pytest.raises(Exception, match="should not be valid"):
        validate({"input": "train.jsonl", **PARAMETERS[kind]}, schema, raise_on_error=True)


def test_ordinary_parameters_fit_the_schema() -> None:
    schema, validate = deployed()
    own = {
        "input": "train.jsonl",
        "judges": ["lexical", "openai:gpt-4o-mini", "openai:m@http://localhost:8000/v1"],
        "api_key_env": "OPENAI_API_KEY",
        "extra_body": '{"stop_token": "x", "chat_template_kwargs": {"enable_thinking": false}}',
        "writer": None,
    }
    validate(own, schema, raise_on_error=True)


@pytest.mark.slow
def test_key_in_a_parameter_is_not_stored(served: tuple[int, str], tmp_path_factory: Any) -> None:
    port, password = served
    own = {"Authorization": signed(password)}
    schema, _ = deployed()
    flow = json.loads(ask(port, "/api/flows/", "POST", {"name": "relabel"}, **own)[2])
    body = {"name": "x", "flow_id": flow["id"], "parameter_openapi_schema": schema, "entrypoint": "x"}
    deployment = json.loads(ask(port, "/api/deployments/", "POST", body, **own)[2])
    place = f"/api/deployments/{deployment['id']}/create_flow_run"
    for parameters in PARAMETERS.values():
        given = {"parameters": {"input": "x", **parameters}}
        assert ask(port, place, "POST", given, **own)[0] in (409, 422), parameters
    assert ask(port, place, "POST", {"parameters": {"input": "x"}}, **own)[0] == 201
    stored = b"".join(p.read_bytes() for p in tmp_path_factory.getbasetemp().rglob("prefect.db*"))
    assert stored
    for part in (KEY, "me:secret", "hf_a1B2", "BEARER"):
        assert part.encode() not in stored
