"""Problems are reported before anything is spent, and no key is ever shown."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from pathlib import Path

import pytest

from schemas.errors import BudgetError, InputError, ModelError
from schemas.recipe import Limits, Recipe
from tasks.models import ModelSettings, open_model, run_async
from tasks.models import limits as retries
from tasks.models.names import parse_model_name
from tasks.models.preflight import check_models, ping
from tasks.models.protocol import Completion
from tasks.models.settings import api_key
from tasks.run import progress as progress
from tasks.run.store import RunContext
from tests.servers.openai_server import HANG, OpenAIServer, status
from tests.tasks.models.asking import DATA, answers, questions, settings_for

FAR = "openai:m@http://models.example:8000/v1"


def test_settings_come_from_the_recipe(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "attributes": ["gender"],
            "models": {"targets": [FAR]},
            "families": {"open": {}},
            "budget": {"usd": 4, "free": [FAR]},
            "api_keys": {"http://models.example:8000": "MY_KEY"},
            "model_limits": {FAR: {"max_in_flight": 3}},
        }
    )
    context = RunContext(
        recipe=recipe,
        run_dir=str(tmp_path / "run"),
        data_dir=str(DATA),
        cache_path=str(tmp_path / "c.sqlite"),
        budget_usd=2.5,
    )
    settings = ModelSettings.of(context)
    assert (settings.budget_usd, settings.run_dir) == (2.5, tmp_path / "run")
    assert (settings.limits(FAR).max_in_flight, settings.limits("openai:x").max_in_flight) == (3, 64)
    assert settings.price(FAR).input == 0


def test_offline_checks_name_the_first_thing_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("MY_KEY", raising=False)
    keys = {"http://models.example:8000": "MY_KEY"}
    settings = settings_for(tmp_path, FAR, api_keys=keys)
    with pytest.raises(InputError, match="MY_KEY is not set"):
        check_models([FAR], settings)
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        check_models(["openai:gpt-5-mini"], settings)
    monkeypatch.setenv("MY_KEY", "sk-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-2")
    check_models([FAR, "openai:gpt-5-mini"], settings)
    with pytest.raises(BudgetError, match="price of openai:unheard-of"):
        check_models(["openai:unheard-of"], settings)
    with pytest.raises(InputError, match="no recording"):
        check_models(["replay:nowhere.parquet"], settings)
    with pytest.raises(InputError, match="vLLM") as caught:
        check_models(["vllm:/models/qwen3"], settings)
    assert "openai:/models/qwen3@http://localhost:8000/v1" in str(caught.value)


@pytest.mark.parametrize(("mapped", "sent"), [(True, "Bearer sk-mine"), (False, "Bearer sk-openai")])
def test_a_loopback_server_gets_the_key_that_is_meant_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool, sent: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("MY_KEY", "sk-mine")
    with OpenAIServer("yes") as server:
        keys = {f"http://127.0.0.1:{server.port}": "MY_KEY"} if mapped else {}
        answers(server.model(), settings_for(tmp_path, server.model(), api_keys=keys), questions(1))
        assert server.requests[0].headers["authorization"] == sent


def test_the_openai_key_is_never_sent_to_an_unknown_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for far in (FAR, "openai:m@http://127.evil.example/v1", "openai:m@http://api.openai.com.evil.example/v1"):
        assert api_key(parse_model_name(far), settings_for(tmp_path)) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://models.example:8000/v1")
    assert api_key(parse_model_name(FAR), settings_for(tmp_path)) == "sk-openai"


def test_a_model_without_endpoint_uses_the_configured_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIServer("yes", api_key="sk-openai") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
        answers("openai:m", settings_for(tmp_path, "openai:m"), questions(1))
        assert server.answered == 1


def test_ping_accepts_running_servers(tmp_path: Path) -> None:
    with OpenAIServer() as server, OpenAIServer(models_status=404) as shy:
        names = [server.model(), server.model(), shy.model(), "embedded:smollm2-135m"]
        run_async(ping(names, settings_for(tmp_path, *names)))
        assert [r.path for r in server.other_requests] == ["/v1/models"]
        assert not server.requests
        assert len(shy.requests) == 1, "it lists no models, so the model is asked"


def test_ping_asks_an_unlisted_model_one_tiny_question(tmp_path: Path) -> None:
    with OpenAIServer("yes") as server:
        run_async(ping([server.model("another-name")], settings_for(tmp_path, server.model("another-name"))))
        (request,) = server.requests
        assert request.body["max_tokens"] <= 16
    unknown = status(404, message="The model `other` does not exist.", error_code="model_not_found")
    with OpenAIServer("yes", faults=[unknown]) as server, pytest.raises(ModelError) as caught:
        run_async(ping([server.model("other")], settings_for(tmp_path, server.model("other"))))
    assert "The model `other` does not exist." in str(caught.value)
    assert "the server lists test-model" in str(caught.value)


def test_ping_names_the_missing_server(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        gone = server.model()
    with pytest.raises(ModelError, match=r"connection to http://127\.0\.0\.1:\d+ failed") as caught:
        run_async(ping([gone], settings_for(tmp_path, gone)))
    assert "start the server" in str(caught.value)


def test_ping_rejects_a_proxy_without_a_server(tmp_path: Path) -> None:
    with OpenAIServer(models_status=502) as server, pytest.raises(ModelError, match="answers 502"):
        run_async(ping([server.model()], settings_for(tmp_path, server.model())))


def test_ping_reports_a_wrong_key_without_showing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with OpenAIServer(api_key="sk-right") as server, pytest.raises(ModelError) as caught:
        run_async(ping([server.model()], settings_for(tmp_path, server.model())))
    assert "does not accept the API key" in str(caught.value)
    assert "check OPENAI_API_KEY" in str(caught.value)
    assert "sk-" not in str(caught.value)


class Heard:
    """A sink that stores its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def open(self, title: str, total: int | None) -> Heard:
        return self

    def advance(self, steps: int = 1) -> None:
        return None

    def close(self, bar: object) -> None:
        return None

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines of the progress display, short waits included."""
    sink = Heard()
    monkeypatch.setattr(progress, "_sink", sink)
    monkeypatch.setattr(retries, "REPORT_FROM_S", 0.5)
    return sink.lines


def gone_after(server: OpenAIServer, calls: int, back_after_s: float | None) -> threading.Thread:
    """Stop the server after `calls` calls, and start another after `back_after_s` seconds, if given."""

    def work() -> None:
        while len(server.requests) < calls:
            time.sleep(0.01)
        server.__exit__(None, None, None)
        if back_after_s is not None:
            time.sleep(back_after_s)
            with OpenAIServer("yes", port=server.port) as again:
                while server.answered + again.answered < 60:
                    time.sleep(0.01)
                time.sleep(0.5)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_server_that_is_gone_for_a_while_costs_no_attempts(tmp_path: Path) -> None:
    server = OpenAIServer("yes", latency_s=0.01).__enter__()
    limits = Limits(max_in_flight=4, attempts=2, timeout_s=10)
    outage = gone_after(server, 20, back_after_s=3.0)
    found = answers(server.model(), settings_for(tmp_path, server.model(), limits=limits), questions(60))
    outage.join()
    assert len(found) == 60
    assert all(isinstance(outcome, Completion) for outcome in found.values())


def test_a_long_outage_stops_the_stage_and_keeps_the_answers(tmp_path: Path, heard: list[str]) -> None:
    server = OpenAIServer("yes", latency_s=0.01).__enter__()
    limits = Limits(max_in_flight=4, attempts=3, timeout_s=10, outage_s=1.0)
    settings = settings_for(tmp_path, server.model(), limits=limits)
    outage = gone_after(server, 20, back_after_s=None)
    with pytest.raises(
        ModelError, match=r"connection to .* failed .*; the server could not be reached for 1 s"
    ) as caught:
        answers(server.model(), settings, questions(60))
    outage.join()
    assert "received answers are kept" in str(caught.value)
    (line,) = heard
    assert re.fullmatch(
        r"the connection to http://127\S+ failed \(\w+\), for 1 s so far; retrying for another 0 s", line
    )
    with OpenAIServer("yes", port=server.port) as again:
        assert len(answers(server.model(), settings, questions(60))) == 60
        assert again.answered <= 60 - server.answered


def test_a_long_requested_wait_is_reported_once(tmp_path: Path, heard: list[str]) -> None:
    busy = [status(429, retry_after="1", message="too busy")]
    with OpenAIServer("yes", faults=busy) as server:
        settings = settings_for(tmp_path, server.model(), limits=Limits(max_in_flight=4))
        assert len(answers(server.model(), settings, questions(8))) == 8
    assert heard == [f"{server.url.removesuffix('/v1')} answered 429: too busy; it asks to wait 1 s"]


def test_a_cancelled_run_keeps_its_answers(tmp_path: Path) -> None:
    settings_limits = Limits(max_in_flight=2, timeout_s=30)
    faults = [None] * 10 + [HANG] * 10
    with OpenAIServer("yes", faults=faults) as server:
        settings = settings_for(tmp_path, server.model(), limits=settings_limits)

        async def interrupted() -> None:
            async with open_model(server.model(), settings) as model:
                async with asyncio.timeout(1.5):
                    async for _ in model.complete(questions(20)):
                        pass

        with pytest.raises(TimeoutError):
            run_async(interrupted())
        answers(server.model(), settings, questions(10))
        assert server.answered == 10


def test_run_async_works_with_and_without_a_loop() -> None:
    async def seven() -> int:
        return 7

    async def nested() -> int:
        return run_async(seven())

    async def failing() -> int:
        raise KeyError("x")

    async def nested_failing() -> int:
        return run_async(failing())

    assert run_async(seven()) == asyncio.run(nested()) == 7
    with pytest.raises(KeyError):
        asyncio.run(nested_failing())
