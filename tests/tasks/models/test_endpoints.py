"""Several endpoints of one model share the load, and dead ones are skipped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schemas.errors import InputError, ModelError
from schemas.recipe import Limits
from tasks.models import run_async
from tasks.models.endpoints import SharedLoad
from tasks.models.names import cache_name, parse_model_name
from tasks.models.preflight import check_models, ping
from tasks.models.protocol import Completion, Decoding, FailedAttempt, Message, Request
from tests.servers.openai_server import HANG, OpenAIServer, status
from tests.tasks.models.asking import answers, questions, settings_for

GONE = FailedAttempt("connection", "not there")
BUSY = FailedAttempt("rate_limit", "too many", retry_after_s=5.0)
REQUEST = Request("t", (Message("user", "hi"),), Decoding(5))
DONE = Completion("t", "yes", "stop", None, 1, 1, 0.0, False)


@dataclass
class Scripted:
    """A backend with scripted results."""

    says: Completion | FailedAttempt = DONE
    asked: int = 0

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        self.asked += 1
        await asyncio.sleep(0)
        return self.says

    async def close(self) -> None:
        return None


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Stage:
    a: Scripted = field(default_factory=Scripted)
    b: Scripted = field(default_factory=Scripted)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.load = SharedLoad([self.a, self.b], self.clock)

    def ask(self, times: int = 1, at_once: bool = False) -> list[Completion | FailedAttempt]:
        async def play() -> list[Completion | FailedAttempt]:
            if at_once:
                return list(await asyncio.gather(*(self.load.ask(REQUEST) for _ in range(times))))
            return [await self.load.ask(REQUEST) for _ in range(times)]

        return asyncio.run(play())

    def counts(self) -> tuple[int, int]:
        return self.a.asked, self.b.asked


@pytest.mark.parametrize("at_once", [True, False])
def test_endpoints_share_the_load_evenly(at_once: bool) -> None:
    stage = Stage()
    stage.ask(20, at_once)
    assert stage.counts() == (10, 10)


def test_a_dead_endpoint_is_left_and_tried_again_ever_more_rarely() -> None:
    stage = Stage(a=Scripted(GONE))
    assert stage.ask(10) == [DONE] * 10
    assert stage.counts() == (1, 10)
    for moment, tries in ((0.9, 1), (1.1, 2), (2.9, 2), (3.2, 3), (7.0, 3), (7.3, 4)):
        stage.clock.now = moment
        assert stage.ask(3) == [DONE] * 3
        assert stage.a.asked == tries, moment


def test_an_endpoint_that_is_back_takes_its_share_again() -> None:
    stage = Stage(a=Scripted(GONE))
    stage.ask(10)
    stage.a.says, stage.clock.now = DONE, 2.0
    stage.ask(20)
    assert stage.a.asked >= 15


def test_an_endpoint_that_refuses_is_skipped_for_the_requested_time() -> None:
    stage = Stage(a=Scripted(BUSY))
    assert stage.ask(10) == [DONE] * 10
    stage.clock.now = 4.9
    stage.ask(5)
    assert stage.a.asked == 1


def test_if_all_refuse_the_model_waits_for_the_first_to_return() -> None:
    stage = Stage(a=Scripted(BUSY), b=Scripted(FailedAttempt("rate_limit", "too many", retry_after_s=2.0)))
    (result,) = stage.ask()
    assert isinstance(result, FailedAttempt)
    assert result.retry_after_s == 2.0
    assert stage.counts() == (1, 1)


def test_a_request_that_may_be_answered_is_not_sent_elsewhere() -> None:
    lost = FailedAttempt("connection", "broke off", may_be_billed=True)
    stage = Stage(a=Scripted(lost))
    assert stage.ask() == [lost]
    assert stage.counts() == (1, 0)


def test_an_invalid_request_is_not_sent_elsewhere() -> None:
    bad = FailedAttempt("bad_request", "no", final=True)
    stage = Stage(a=Scripted(bad))
    assert stage.ask() == [bad]
    assert stage.b.asked == 0


def test_real_servers_share_and_one_that_stops_loses_nothing(tmp_path: Path) -> None:
    with OpenAIServer("yes") as gone:
        dead = gone.url
    with OpenAIServer("yes") as a, OpenAIServer("yes") as b:
        name = f"openai:test-model@{dead},{a.url},{b.url}"
        found = answers(name, settings_for(tmp_path, name), questions(60))
        assert all(isinstance(outcome, Completion) for outcome in found.values())
        assert a.answered + b.answered == 60
        assert min(a.answered, b.answered) >= 15


def test_a_server_that_refuses_is_relieved_by_the_other(tmp_path: Path) -> None:
    refuses = status(429, retry_after="30")
    with OpenAIServer("yes", faults=lambda n, body: refuses) as full, OpenAIServer("yes") as free:
        name = f"openai:test-model@{full.url},{free.url}"
        found = answers(name, settings_for(tmp_path, name), questions(40))
        assert all(isinstance(outcome, Completion) for outcome in found.values())
        assert len(full.requests) <= 16


def test_answers_are_found_again_however_the_list_is_written(tmp_path: Path) -> None:
    with OpenAIServer("yes") as a, OpenAIServer("yes") as b:
        both, turned = (f"openai:test-model@{x.url},{y.url}" for x, y in ((a, b), (b, a)))
        with OpenAIServer("yes") as c:
            three = f"{both},{c.url}"
            answers(both, settings_for(tmp_path, both, turned, three), questions(10))
            for name in (turned, three):
                found = answers(name, settings_for(tmp_path, both, turned, three), questions(10))
                assert all(isinstance(o, Completion) and o.cached for o in found.values())
        assert a.answered + b.answered == 10


def test_one_endpoint_is_another_model_than_several() -> None:
    names = ["openai:m@http://a/v1", "openai:m@http://b/v1", "openai:m@http://a/v1,http://b/v1"]
    assert len({cache_name(parse_model_name(name), {}) for name in names}) == 3


def test_a_list_is_read_in_one_order_and_each_part_checked() -> None:
    model = parse_model_name("openai:org/m@https://b/v1,http://a:8000")
    assert model.endpoints == ("http://a:8000/v1", "https://b/v1")
    assert parse_model_name(str(model)) == model
    for wrong in ("openai:m@http://a/v1,b/v1", "openai:m@http://a/v1,http://u:p@b/v1", "openai:m@http://a,"):
        with pytest.raises(InputError):
            parse_model_name(wrong)


def test_before_a_build_one_endpoint_that_answers_is_enough(tmp_path: Path) -> None:
    with OpenAIServer("yes") as gone:
        dead = f"openai:test-model@{gone.url}"
    with OpenAIServer("yes") as a:
        name = f"{dead},{a.url}"
        check_models([name], settings_for(tmp_path, name))
        run_async(ping([name], settings_for(tmp_path, name)))
        with pytest.raises(ModelError):
            run_async(ping([dead], settings_for(tmp_path, dead)))


def test_one_that_hangs_does_not_keep_the_others_from_finishing(tmp_path: Path) -> None:
    with OpenAIServer("yes", faults=lambda n, body: HANG) as hangs, OpenAIServer("yes") as b:
        name = f"openai:test-model@{hangs.url},{b.url}"
        limits = Limits(max_in_flight=8, timeout_s=0.3, attempts=12)
        found = answers(name, settings_for(tmp_path, name, limits=limits), questions(20))
        assert all(isinstance(outcome, Completion) for outcome in found.values())
