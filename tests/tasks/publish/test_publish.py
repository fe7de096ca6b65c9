"""After any fault the Hub shows the old release or the complete new one. A second run finishes."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection
from pathlib import Path

import pytest

from schemas.errors import CounterfoilError, GateError, InputError, PublishError
from schemas.tables import file_hash
from tests.servers.hub_server import (
    DROP,
    HANG,
    KILL,
    KILL_AFTER,
    LOST,
    STALE,
    Fault,
    HubServer,
    Received,
    corrupt,
    status,
    wait,
)
from tests.tasks.publish.publishing import (
    REPO,
    bytes_of,
    publish_on_signal,
    publish_to,
    publisher,
    short_wait_client,
    visible_files,
    write_release,
)

PRELOADED = [
    "tests.tasks.publish.publishing",
    "huggingface_hub.hf_api",
    "huggingface_hub._commit_api",
    "huggingface_hub._snapshot_download",
]
"""Modules that are imported before the publishing processes are forked."""
AT_ONCE = 26
"""Number of faulty Hubs at the same time. Most of the time is waiting."""


@pytest.fixture(autouse=True, scope="module")
def _impatient() -> Iterator[None]:
    with short_wait_client():
        yield


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("releases")
    first = write_release(home, "0.1.0")
    return first, write_release(home, "0.2.0", previous=first)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, releases: tuple[Path, Path]) -> HubServer:
    """Start a Hub with the first version."""
    with HubServer(tmp_path_factory.mktemp("before")) as server:
        publish_to(server, releases[0])
    return server


@pytest.fixture(scope="module")
def requests(
    tmp_path_factory: pytest.TempPathFactory, releases: tuple[Path, Path], before: HubServer
) -> list[Received]:
    """Record every request of a successful publication of the second version."""
    with HubServer(tmp_path_factory.mktemp("clean"), like=before) as server:
        publish_to(server, releases[1])
        return server.requests


# Success.


def test_release_is_one_commit_and_one_tag(hub: HubServer, releases: tuple[Path, Path]) -> None:
    first, second = releases
    done = publish_to(hub, first)
    assert hub.history(REPO) == ["initial commit", "everyday-advice 0.1.0"]
    assert hub.repos[REPO].tags == {"v0.1.0": done.commit}
    assert file_hash(first / "manifest.json") in hub.repos[REPO].messages["v0.1.0"]
    assert (done.tag, done.new, done.url) == ("v0.1.0", True, f"{hub.url}/datasets/{REPO}/tree/v0.1.0")
    publish_to(hub, second)
    assert len(hub.history(REPO)) == 3
    assert visible_files(hub) == visible_files(hub, "v0.2.0") == bytes_of(second)
    assert visible_files(hub, "v0.1.0") == bytes_of(first)


def test_removed_files_are_deleted_and_hidden_files_stay(hub: HubServer, releases: tuple[Path, Path]) -> None:
    publish_to(hub, releases[0])
    assert "NOTES.md" in hub.files(REPO)
    publish_to(hub, releases[1])
    assert "NOTES.md" not in hub.files(REPO)
    assert ".gitattributes" in hub.files(REPO)


def test_published_again_reports_it_and_commits_nothing(
    before: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    with HubServer(tmp_path, like=before) as hub:
        done = publish_to(hub, releases[0])
        assert not done.new
        assert done.tag == "v0.1.0"
        assert {r.route for r in hub.requests}.isdisjoint({"commit", "preupload", "tag", "create"})


def test_everything_is_read_back_before_it_is_tagged(requests: list[Received]) -> None:
    routes = [r.route for r in requests]
    after = routes[routes.index("commit") : routes.index("tag")]
    assert after.count("download") == 1  # the table, from the storage
    assert sum(r.method == "GET" and r.route == "resolve" for r in requests[routes.index("commit") :]) >= 3


def test_interrupted_before_the_tag_it_is_verified_and_tagged(
    before: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    with HubServer(tmp_path, like=before) as hub:
        del hub.repos[REPO].tags["v0.1.0"]
        done = publish_to(hub, releases[0])
        assert hub.repos[REPO].tags == {"v0.1.0": done.commit}
        assert "commit" not in {r.route for r in hub.requests}


# Refused releases.


def test_changed_release_is_refused_with_a_line_for_every_file(
    hub: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    dirty = Path(shutil.copytree(releases[0], tmp_path / "dirty"))
    (dirty / "README.md").write_text("another card")
    (dirty / "NOTES.md").unlink()
    (dirty / "extra.txt").write_text("does not belong")
    with pytest.raises(PublishError) as refused:
        publish_to(hub, dirty)
    for name in ("README.md", "NOTES.md", "extra.txt"):
        assert sum(line.strip().startswith(f"{name}:") for line in str(refused.value).splitlines()) == 1
    assert not hub.requests


def test_release_that_did_not_pass_the_gate_is_refused(
    hub: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    failed = Path(shutil.copytree(releases[0], tmp_path / "failed"))
    manifest = (failed / "manifest.json").read_text()
    (failed / "manifest.json").write_text(manifest.replace('"passed": 1', '"passed": 0'))
    with pytest.raises(GateError, match="has not passed validation"):
        publish_to(hub, failed)
    assert not hub.requests


@pytest.mark.parametrize("name", ["everyday", "a/b/c", "../x", "org/", "https://x/y"])
def test_name_that_is_no_dataset_is_refused(name: str, hub: HubServer, releases: tuple[Path, Path]) -> None:
    from tasks.publish import publish

    with pytest.raises(InputError, match="not a dataset name"):
        publish(releases[0], name, publisher(hub))
    assert not hub.requests


# Conflicts.


def test_tag_never_moves(before: HubServer, tmp_path: Path) -> None:
    other = write_release(tmp_path, "0.1.0", note=" of someone else")
    with HubServer(tmp_path, like=before) as hub:
        tagged = dict(hub.repos[REPO].tags)
        with pytest.raises(PublishError, match="a tag never moves"):
            publish_to(hub, other)
        assert hub.repos[REPO].tags == tagged
        assert hub.history(REPO) == before.history(REPO)


def test_release_that_was_compared_with_another_one_is_refused(before: HubServer, tmp_path: Path) -> None:
    elsewhere = write_release(tmp_path / "elsewhere", "0.1.0", note=" as built elsewhere")
    later = write_release(tmp_path / "later", "0.2.0", previous=elsewhere)
    first_too = write_release(tmp_path / "first", "0.3.0")
    with HubServer(tmp_path, like=before) as hub:
        for release in (later, first_too):
            with pytest.raises(PublishError, match=r"is at 0\.1\.0, but this release was compared with"):
                publish_to(hub, release)
        assert hub.history(REPO) == before.history(REPO)


def test_dataset_of_another_line_or_with_someones_data_is_left_alone(
    before: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    other = write_release(tmp_path, "0.1.0", name="another-line")
    with HubServer(tmp_path, like=before) as hub:
        with pytest.raises(PublishError, match="has the releases of 'everyday-advice'"):
            publish_to(hub, write_release(tmp_path, "0.2.0", name="another-line", previous=other))
        hub.create(REPO)
        hub.edit(REPO, "train.csv", b"a,b\n")
        with pytest.raises(PublishError, match=r"is not empty .*train\.csv"):
            publish_to(hub, releases[0])
        assert visible_files(hub) == {"train.csv": b"a,b\n"}


def test_change_that_someone_made_by_hand_is_not_undone(
    before: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    with HubServer(tmp_path, like=before) as hub:
        hub.edit(REPO, "README.md", b"mended by hand")
        with pytest.raises(PublishError, match=r"was changed since v0\.1\.0: README\.md"):
            publish_to(hub, releases[1])
        assert hub.files(REPO)["README.md"] == b"mended by hand"


def test_unfinished_release_comes_first(
    before: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    with HubServer(tmp_path, like=before) as hub:
        tag = hub.repos[REPO].tags.pop("v0.1.0")
        with pytest.raises(PublishError, match="has no tag"):
            publish_to(hub, releases[1])
        publish_to(hub, releases[0])
        assert hub.repos[REPO].tags == {"v0.1.0": tag}
        publish_to(hub, releases[1])


def test_commit_in_between_is_noticed_by_the_hub_itself(
    before: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    other = write_release(tmp_path, "0.2.0", previous=releases[0], note=" of someone else")
    may_commit = threading.Event()

    def first_commit_waits(received: Received) -> Fault | None:
        commits = [r for r in hub.requests if r.route == "commit"]
        return wait(may_commit) if commits[:1] == [received] else None

    with HubServer(tmp_path, like=before, faults=first_commit_waits) as hub, ThreadPoolExecutor() as pool:
        slow = pool.submit(publish_to, hub, releases[1])
        while not any(r.route == "commit" for r in hub.requests):
            assert not slow.done()
        fast = publish_to(hub, other)
        may_commit.set()
        with pytest.raises(PublishError, match="412") as refused:
            slow.result()
        assert refused.value.exit_code == 6
        assert visible_files(hub) == bytes_of(other)
        assert hub.repos[REPO].tags["v0.2.0"] == fast.commit


# Private datasets, pull requests.


def test_private_dataset_is_made_private_and_a_public_one_refused(
    hub: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    publish_to(hub, releases[0], private=True)
    assert hub.repos[REPO].private
    publish_to(hub, releases[1], private=True)
    hub.repos[REPO].private = False
    with pytest.raises(InputError, match="is public, but --private"):
        publish_to(hub, releases[1], private=True)


def test_pull_request_is_opened_once_and_tagged_when_it_is_merged(
    before: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    with HubServer(tmp_path, like=before) as hub:
        proposed = publish_to(hub, releases[1], propose=True)
        assert (proposed.tag, proposed.url) == (None, f"{hub.url}/datasets/{REPO}/discussions/1")
        assert visible_files(hub) == bytes_of(releases[0])
        assert visible_files(hub, "refs/pr/1") == bytes_of(releases[1])
        again = publish_to(hub, releases[1], propose=True)
        assert (again.commit, again.new) == (proposed.commit, False)
        assert list(hub.repos[REPO].proposals) == [1]
        merged = hub.merge(REPO, 1)
        done = publish_to(hub, releases[1])
        assert (done.tag, done.commit) == ("v0.2.0", merged)
        assert visible_files(hub, "v0.2.0") == bytes_of(releases[1])


def test_pull_request_that_was_closed_is_opened_anew(
    before: HubServer, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    with HubServer(tmp_path, like=before) as hub:
        publish_to(hub, releases[1], propose=True)
        hub.repos[REPO].proposals[1].status = "closed"
        assert publish_to(hub, releases[1], propose=True).url.endswith("/discussions/2")


# Faults at every request.

FAULTS: dict[str, Fault] = {
    "closed before it is done": DROP,
    "done, and the answer lost": LOST,
    "never answered": HANG,
    "500": status(500),
    "502 with a web page": status(502, as_json=False),
    "429": status(429, retry_after="0"),
}


def check_consistent(hub: HubServer, releases: tuple[Path, Path]) -> bool:
    """Check that the Hub shows exactly one release, and that the first version is unchanged."""
    seen = visible_files(hub)
    tags = set(hub.repos[REPO].tags)
    return (
        seen in [bytes_of(release) for release in releases]
        and visible_files(hub, "v0.1.0") == bytes_of(releases[0])
        and {"v0.1.0"} <= tags <= {"v0.1.0", "v0.2.0"}
        and ("v0.2.0" not in tags or visible_files(hub, "v0.2.0") == bytes_of(releases[1]))
    )


def finished(hub: HubServer, releases: tuple[Path, Path]) -> bool:
    tags = hub.repos[REPO].tags
    return visible_files(hub) == bytes_of(releases[1]) and tags.get("v0.2.0") == hub.repos[REPO].main


def failures_by_position(
    count: int, happens: Callable[[int], str | None], pool_size: int = AT_ONCE
) -> list[tuple[int, str]]:
    """Run a check on every fault position and return the errors by position."""
    with ThreadPoolExecutor(pool_size) as pool:
        found = list(pool.map(happens, range(count)))
    return [(position, failure) for position, failure in enumerate(found) if failure]


@pytest.mark.parametrize("name", FAULTS)
def test_fault_at_any_request_is_got_over(
    name: str,
    tmp_path: Path,
    releases: tuple[Path, Path],
    before: HubServer,
    requests: list[Received],
) -> None:
    def happens(position: int) -> str | None:
        room = tmp_path / str(position)
        with HubServer(room, like=before, faults={position: FAULTS[name]}) as hub:
            done = publish_to(hub, releases[1])
            if not (check_consistent(hub, releases) and finished(hub, releases) and done.tag == "v0.2.0"):
                return f"{requests[position].route}: {sorted(visible_files(hub))} {hub.repos[REPO].tags}"
            return None if len(hub.history(REPO)) == 3 else f"commits: {hub.history(REPO)}"

    assert failures_by_position(len(requests), happens) == []


@pytest.mark.parametrize("name", ["closed before it is done", "done, and the answer lost"])
def test_fault_at_any_request_of_a_first_release_is_got_over(
    name: str, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    with HubServer(tmp_path / "clean") as hub:
        publish_to(hub, releases[0])
        count = len(hub.requests)

    def happens(position: int) -> str | None:
        with HubServer(tmp_path / str(position), faults={position: FAULTS[name]}) as hub:
            publish_to(hub, releases[0])
            history = ["initial commit", "everyday-advice 0.1.0"]
            right = visible_files(hub) == visible_files(hub, "v0.1.0") == bytes_of(releases[0])
            return None if right and hub.history(REPO) == history else f"{hub.history(REPO)}"

    assert failures_by_position(count, happens) == []


@pytest.mark.parametrize("checks_uploads", [True, False])
def test_file_that_is_stored_wrongly_is_removed(
    checks_uploads: bool,
    tmp_path: Path,
    releases: tuple[Path, Path],
    before: HubServer,
    requests: list[Received],
) -> None:
    bringing = [r.number - requests[0].number for r in requests if r.route in ("upload", "commit")]
    assert len(bringing) == 2

    def happens(nth: int) -> str | None:
        faults = {bringing[nth]: corrupt()}
        room = tmp_path / str(nth)
        with HubServer(room, like=before, faults=faults, checks_uploads=checks_uploads) as hub:
            with pytest.raises(PublishError) as refused:
                publish_to(hub, releases[1])
            if visible_files(hub) != bytes_of(releases[0]) or "v0.2.0" in hub.repos[REPO].tags:
                return f"{refused.value} leaves {sorted(visible_files(hub))}"
            publish_to(hub, releases[1])
            return None if check_consistent(hub, releases) and finished(hub, releases) else "not finished"

    assert failures_by_position(len(bringing), happens) == []


def test_file_that_was_stored_wrongly_before_an_interruption_is_taken_back(
    tmp_path: Path, releases: tuple[Path, Path], before: HubServer, requests: list[Received]
) -> None:
    commit = next(r.number for r in requests if r.route == "commit")
    # The file is stored wrongly and its download fails repeatedly, so the publisher gives up.
    faults = {commit: corrupt("README.md")} | {
        n: status(503, retry_after="999") for n in range(commit + 1, commit + 60)
    }
    with HubServer(tmp_path, like=before, faults=faults) as hub:
        with pytest.raises(PublishError, match="999 s"):
            publish_to(hub, releases[1])
        assert not check_consistent(hub, releases)  # not yet detectable
        hub.faults = {}
        with pytest.raises(PublishError, match="was taken back"):
            publish_to(hub, releases[1])
        assert visible_files(hub) == bytes_of(releases[0])
        publish_to(hub, releases[1])
        assert finished(hub, releases)


def test_download_that_arrives_wrongly_once_is_read_again(
    tmp_path: Path, releases: tuple[Path, Path], before: HubServer, requests: list[Received]
) -> None:
    commit = next(r.number for r in requests if r.route == "commit")
    reading = [
        r.number for r in requests[commit:] if r.method == "GET" and r.route in ("resolve", "download")
    ]

    def happens(nth: int) -> str | None:
        with HubServer(tmp_path / str(nth), like=before, faults={reading[nth]: STALE}) as hub:
            publish_to(hub, releases[1])
            return None if finished(hub, releases) and len(hub.history(REPO)) == 3 else "not finished"

    assert failures_by_position(len(reading), happens) == []


@pytest.mark.parametrize("kill", [KILL, KILL_AFTER], ids=["before it is done", "after it is done"])
def test_hub_is_consistent_after_a_kill_at_any_request_and_the_next_run_finishes(
    kill: Fault,
    tmp_path: Path,
    releases: tuple[Path, Path],
    before: HubServer,
    requests: list[Received],
) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    one_at_a_time = threading.Lock()
    """Exit codes are read in one thread, because starting a process collects those of all others."""

    def happens(position: int) -> str | None:
        with HubServer(tmp_path / str(position), like=before, faults={position: kill}) as hub:
            here, there = processes.Pipe()
            victim = processes.Process(
                target=publish_on_signal, args=(releases[1], hub.url, hub.token, there)
            )
            with one_at_a_time:
                victim.start()
            hub.client = victim.pid
            here.send("go")
            connection.wait([victim.sentinel], 60)
            with one_at_a_time:
                ended = victim.exitcode
            if ended != -9:
                return f"was not killed: {ended}"
            if not check_consistent(hub, releases):
                return f"after {requests[position].route} there is {sorted(visible_files(hub))}"
            hub.faults = {}
            publish_to(hub, releases[1])
            return None if finished(hub, releases) and len(hub.history(REPO)) == 3 else "not finished"

    assert failures_by_position(len(requests), happens, pool_size=8) == []


@pytest.mark.slow
def test_hub_with_permanent_faults_is_given_up_and_stays_consistent(
    tmp_path: Path, releases: tuple[Path, Path], before: HubServer
) -> None:
    def storm(seed: int) -> Callable[[Received], Fault | None]:
        faults = (DROP, LOST, status(500, retry_after="0"), status(429, retry_after="0"))
        return lambda received: (
            dice.choice(faults)
            if (dice := random.Random(f"{seed}/{received.number}")).random() < 0.15
            else None
        )

    def happens(seed: int) -> str | None:
        with HubServer(tmp_path / str(seed), like=before, faults=storm(seed)) as hub:
            for _ in itertools.repeat(None, 20):
                try:
                    publish_to(hub, releases[1])
                except CounterfoilError as error:
                    if not check_consistent(hub, releases):
                        return f"{error} leaves {sorted(visible_files(hub))}"
                else:
                    return None if finished(hub, releases) and len(hub.history(REPO)) == 3 else "not whole"
            return "never finished"

    assert failures_by_position(6, happens) == []
