"""The Hub client reports errors clearly, within time limits, and never with the token."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from schemas.errors import CounterfoilError, InputError, PublishError
from schemas.tables import file_hash
from tasks.publish import hub as hub_errors
from tasks.publish.hub import (
    ConflictError,
    Hub,
    NotFoundError,
    TransientError,
    convert_error,
    reject_long_wait,
    with_retries,
)
from tasks.run.retries import Backoff, RetryPolicy
from tests.servers.hub_server import HubServer, status
from tests.tasks.publish.publishing import (
    REPO,
    publish_to,
    publisher,
    short_wait_client,
    write_release,
)

SECRET = "hf_maker"


@pytest.fixture(autouse=True, scope="module")
def _impatient() -> Iterator[None]:
    with short_wait_client():
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("releases"), "0.1.0")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path) as server:
        yield server


def logged_text(error: BaseException) -> str:
    """Return the error as a logger would write it, with its causes."""
    links = [error, error.__cause__, error.__context__]
    return "\n".join(
        [*traceback.format_exception(error), *(repr(vars(e)) + str(e) for e in links if e is not None)]
    )


# Uploads.


def test_endpoint_without_xet_gets_large_files_by_lfs(hub: HubServer, release: Path) -> None:
    assert not constants.HF_HUB_DISABLE_XET
    publish_to(hub, release)
    routes = [r.route for r in hub.requests]
    assert routes.count("lfs-batch") == routes.count("upload") == routes.count("lfs-verify") == 1


def test_endpoint_with_xet_gets_large_files_that_way(tmp_path: Path, release: Path) -> None:
    with HubServer(tmp_path, offers_xet=True) as hub:
        with pytest.raises(CounterfoilError):  # only the address of the storage
            publish_to(hub, release)
        asked = [r for r in hub.requests if r.path.startswith("/cas")]
        assert asked
        assert not any(SECRET in str(r.headers) for r in asked)
        assert "lfs-batch" not in {r.route for r in hub.requests}


def test_switching_xet_off_is_obeyed(tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with HubServer(tmp_path, offers_xet=True) as hub:
        publish_to(hub, release)
        assert "lfs-batch" in {r.route for r in hub.requests}
        assert not any(r.path.startswith("/cas") for r in hub.requests)


def test_storage_never_sees_the_token(hub: HubServer, release: Path) -> None:
    publish_to(hub, release)
    stored = [r for r in hub.requests if r.route in ("upload", "download")]
    assert {r.route for r in stored} == {"upload", "download"}
    assert not any("Authorization" in r.headers for r in stored)


# Reading.


def test_download_is_fresh_and_leaves_the_users_cache_alone(
    hub: HubServer, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    commit = publish_to(hub, release).commit
    for place in ("one", "two"):
        asked = len(hub.requests)
        publisher(hub).download(REPO, commit, tmp_path / place)
        assert sum(r.route == "download" for r in hub.requests[asked:]) == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["../outside.txt", "a/../../b", "/etc/x", "a\\..\\b"])
def test_file_name_that_leads_outside_is_refused(
    name: str, hub: HubServer, release: Path, tmp_path: Path
) -> None:
    publish_to(hub, release)
    commit = hub.edit(REPO, name, b"evil")
    with pytest.raises(PublishError, match="unsafe name"):
        publisher(hub).download(REPO, commit, tmp_path / "room" / "inside")
    assert not list(tmp_path.rglob("outside*"))


# Error messages.


@pytest.mark.parametrize(
    ("token", "message"),
    [("hf_reader", "answered 403"), ("hf_unknown", "answered 401"), (None, "needs a token")],
)
def test_token_that_may_not_write_is_reported_with_the_next_step(
    token: str | None, message: str, hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    from tasks.publish import publish

    with pytest.raises(InputError, match=message) as refused:
        publish(release, REPO, Hub(token, hub.url))
    assert "HF_TOKEN" in (refused.value.hint or "")
    assert REPO not in hub.repos


def test_private_dataset_is_not_there_for_strangers(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    publish_to(hub, release, private=True)
    with pytest.raises(InputError):
        Hub(None, hub.url).read_state(REPO)
    assert Hub("hf_reader", hub.url).read_state(REPO).tags


def test_conflict_has_its_own_error(hub: HubServer, release: Path) -> None:
    done = publish_to(hub, release)
    door = publisher(hub)
    with pytest.raises(ConflictError):
        door.tag(REPO, "v0.1.0", done.commit)
    with pytest.raises(NotFoundError):
        door.read_state("org/nothing-here")


def test_hub_that_is_offline_by_setting_names_the_setting(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        publisher(hub).read_state(REPO)


def test_card_that_the_hub_refuses_is_reported_first(hub: HubServer, tmp_path: Path) -> None:
    release = write_release(tmp_path, "0.1.0")
    card = release / "README.md"
    manifest = (release / "manifest.json").read_text()
    before = file_hash(card)
    card.write_text(card.read_text().replace("tags: [bias]", "tags: 7"))
    (release / "manifest.json").write_text(manifest.replace(before, file_hash(card)))
    with pytest.raises(PublishError, match='"tags" must be a list'):
        publish_to(hub, release)
    assert "preupload" not in {r.route for r in hub.requests}


# Secrecy of the token.


def test_token_is_in_no_error_even_if_the_hub_repeats_it(tmp_path: Path, release: Path) -> None:
    with HubServer(tmp_path, echoes_token=True) as hub:
        done = publish_to(hub, release)
        door = publisher(hub)
        for refused in (
            lambda: door.read_state("org/nothing-here"),
            lambda: door.tag(REPO, "v0.1.0", done.commit),
            lambda: door.list_commits(REPO, "0" * 40),
            lambda: Hub("hf_unknown", hub.url).read_state(REPO),
        ):
            with pytest.raises(CounterfoilError) as error:
                refused()
            message = logged_text(error.value)
            assert "***" in message
            assert SECRET not in message.replace("SECRET", "")
            assert "hf_unknown" not in message.replace('Hub("hf_unknown", hub.url)', "")
        assert SECRET not in repr(door)


def test_signature_of_an_address_is_left_out() -> None:
    error = convert_error(ValueError("PUT https://storage/x?X-Signature=abc failed"), "the upload", None)
    assert "X-Signature" not in str(error)
    assert "https://storage/x" in str(error)


# Retries.


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(hub_errors.time, "sleep", taken.append)
    monkeypatch.setattr(hub_errors, "RETRY_POLICY", RetryPolicy(5, Backoff(1.0, 60.0), longest_wait_s=120.0))
    return taken


def test_waits_grow_and_end(naps: list[float]) -> None:
    def fails() -> None:
        raise TransientError("the Hub answered 500")

    with pytest.raises(PublishError, match="answered 500") as given_up:
        with_retries(fails)
    assert naps == [1, 2, 4, 8]
    assert "run the same command again" in (given_up.value.hint or "")
    assert given_up.value.__context__ is None


def test_hub_is_given_the_time_that_it_asks_for_within_reason(naps: list[float]) -> None:
    asked = iter([30.0, 7.0])

    def busy() -> str:
        wait_s = next(asked, None)
        if wait_s is None:
            return "done"
        raise TransientError("the Hub answered 429", wait_s)

    assert with_retries(busy) == "done"
    assert naps == [30, 7]
    asked = iter([3600.0])
    with pytest.raises(PublishError, match="3600 s"):
        with_retries(busy)
    assert naps == [30, 7]


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "3600"}, {"RateLimit": '"api";r=0;t=3600'}],
    ids=["retry-after", "ratelimit"],
)
def test_client_may_not_sleep_for_an_hour(headers: dict[str, str]) -> None:
    import httpx2

    with pytest.raises(TransientError) as busy:
        reject_long_wait(httpx2.Response(429, headers=headers))
    assert busy.value.wait_s == 3600
    reject_long_wait(httpx2.Response(200, headers=headers))
    reject_long_wait(httpx2.Response(429, headers={"Retry-After": "5", "RateLimit": '"api";r=9;t=3600'}))


def test_failure_of_this_machine_is_not_blamed_on_the_hub() -> None:
    full = OSError(28, "No space left on device")
    assert convert_error(full, "downloading", None) is full


def test_publishing_gives_up_on_a_hub_that_stays_down(tmp_path: Path, release: Path) -> None:
    with HubServer(tmp_path, faults=lambda _: status(503, retry_after="0")) as hub:
        with pytest.raises(PublishError, match="answered 503") as given_up:
            publish_to(hub, release)
        assert given_up.value.exit_code == 6
    with pytest.raises(PublishError, match="cannot be reached"):
        publish_to(hub, release)
