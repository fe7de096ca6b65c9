"""A published release as input: complete or absent, and available offline after the first fetch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from datasets import Features

from schemas.errors import InputError, PublishError
from schemas.question import QUESTIONS
from tasks.deduplicate import STAGE as DEDUPLICATE
from tasks.publish import publish
from tasks.publish.fetching import fetch_release, plain_schema, read_card_metadata
from tasks.release.references import HubRef, find_fetched_release, resolve_place
from tasks.run.store import RunContext, run_stage
from tests.release_fixtures import package_build
from tests.servers.hub_server import DROP, STALE, HubServer
from tests.tasks.publish.publishing import (
    REPO,
    bytes_of,
    publish_to,
    publisher,
    short_wait_client,
    write_release,
)
from tests.tasks.release.example import example_question, small_build, write_ref

REF = f"{REPO}@v0.1.0"


@pytest.fixture(autouse=True, scope="module")
def _impatient() -> Iterator[None]:
    with short_wait_client():
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("releases"), "0.1.0")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, release: Path) -> HubServer:
    with HubServer(tmp_path_factory.mktemp("before")) as server:
        publish_to(server, release)
    return server


def test_release_is_fetched_completely_under_its_commit(
    before: HubServer, tmp_path: Path, release: Path
) -> None:
    with HubServer(tmp_path, like=before) as hub:
        place = fetch_release(REF, tmp_path / "cache", publisher(hub))
    assert place == tmp_path / "cache" / REPO / before.repos[REPO].main
    assert bytes_of(place) == bytes_of(release)


def test_fetched_version_is_found_without_the_hub(before: HubServer, tmp_path: Path) -> None:
    with HubServer(tmp_path, like=before) as hub:
        place = fetch_release(REF, tmp_path / "cache", publisher(hub))
        asked = len(hub.requests)
        assert fetch_release(REF, tmp_path / "cache", publisher(hub)) == place
        assert len(hub.requests) == asked
    assert find_fetched_release(REF, tmp_path / "cache") == resolve_place(REF, tmp_path / "cache") == place
    assert find_fetched_release(f"{REPO}@v9.9.9", tmp_path / "cache") is None
    with pytest.raises(InputError, match="was not fetched yet"):
        resolve_place(f"{REPO}@v9.9.9", tmp_path / "cache")


def test_fault_at_any_request_leaves_all_or_nothing(before: HubServer, tmp_path: Path, release: Path) -> None:
    with HubServer(tmp_path / "clean", like=before) as hub:
        fetch_release(REF, tmp_path / "cache", publisher(hub))
        count = len(hub.requests)

    def happens(position: int) -> bool:
        cache = tmp_path / str(position) / "cache"
        with HubServer(tmp_path / str(position), like=before, faults={position: DROP}) as hub:
            place = fetch_release(REF, cache, publisher(hub))
        left = {p.name for p in (cache / REPO).iterdir()}
        return bytes_of(place) == bytes_of(release) and left == {place.name, "v0.1.0.commit"}

    with ThreadPoolExecutor(count) as pool:
        assert all(pool.map(happens, range(count)))


def test_file_that_arrives_wrongly_is_not_kept(before: HubServer, tmp_path: Path) -> None:
    with HubServer(tmp_path, like=before) as hub:
        hub.faults = lambda received: STALE if received.route == "download" else None
        with pytest.raises(PublishError, match=r"questions.*is not the hash in the manifest") as refused:
            fetch_release(REF, tmp_path / "cache", publisher(hub))
    assert "counterfoil verify" in (refused.value.hint or "")
    assert list((tmp_path / "cache" / REPO).iterdir()) == []


def test_tag_that_is_not_there_names_those_that_are(before: HubServer, tmp_path: Path) -> None:
    with HubServer(tmp_path, like=before) as hub, pytest.raises(InputError, match=r"no tag 'v7'") as refused:
        fetch_release(f"{REPO}@v7", tmp_path / "cache", publisher(hub))
    assert refused.value.hint == "available tags: v0.1.0; `main` or a commit work too"


def test_version_tag_on_another_release_is_refused(before: HubServer, tmp_path: Path) -> None:
    with HubServer(tmp_path, like=before) as hub:
        hub.repos[REPO].tags["v3.0.0"] = hub.repos[REPO].main
        with pytest.raises(PublishError, match="does not match its manifest"):
            fetch_release(f"{REPO}@v3.0.0", tmp_path / "cache", publisher(hub))


@pytest.mark.parametrize(
    "text",
    ["releases/a/1.0.0", "org/name", "org/name@", "a/b/c@v1", "../x@v1", "org/name@../v1", "x@y", "/a/b@v1"],
)
def test_path_is_no_published_release(text: str) -> None:
    assert HubRef.of(text) is None


def test_existing_path_has_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert HubRef.of("org/name@v1.0.0") == HubRef("org/name", "v1.0.0")
    (tmp_path / "org" / "name@v1.0.0").mkdir(parents=True)
    assert HubRef.of("org/name@v1.0.0") is None


def test_questions_stay_clear_of_a_published_release(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    released = package_build(tmp_path / "packaged", small_build())
    ref = "example/everyday-advice@v0.1.0"
    context = make_context(deduplicate={"against": [ref]})
    questions = write_ref(tmp_path / "questions.parquet", QUESTIONS, [example_question()])
    with pytest.raises(InputError, match="was not fetched yet"):
        run_stage(DEDUPLICATE, context, questions=questions)
    with HubServer(tmp_path) as hub:
        publish(released, "example/everyday-advice", publisher(hub))
        fetch_release(ref, context.hub_cache, publisher(hub))
    step = run_stage(DEDUPLICATE, context, questions=questions)
    assert step.table("questions").rows == 0
    assert step.table("dropped").rows == 1


def test_the_columns_of_a_card_are_read_without_the_library(tmp_path: Path) -> None:
    """The result is that of `datasets`, for every config."""
    release = package_build(tmp_path, small_build())
    for info in read_card_metadata(release / "README.md")["dataset_info"]:
        expected = Features._from_yaml_list(info["features"]).arrow_schema
        found = plain_schema(info["features"])
        assert found is not None
        assert found.equals(expected, check_metadata=False)


@pytest.mark.parametrize(
    "features",
    [
        "text",
        [{"name": "x", "dtype": "image"}],
        [{"name": "x", "dtype": {"class_label": {"names": {"0": "a"}}}}],
        [{"name": "x", "sequence": "string"}],
        [{"name": "x"}],
        [{"name": 3, "dtype": "string"}],
    ],
)
def test_other_descriptions_of_columns_are_left_to_the_library(features: object) -> None:
    assert plain_schema(features) is None
