"""The test Hub behaves like the Hub for the real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.servers.hub_server import HubServer, card_errors, corrupt

REPO = "org/data"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with HubServer(tmp_path) as server:
        yield server


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    made = HfApi(endpoint=hub.url, token=hub.token)
    made.create_repo(REPO, repo_type="dataset")
    return made


def commit(api: HfApi, name: str, content: bytes, parent: str | None = None) -> str:
    operations = [CommitOperationAdd(name, content)]
    made = api.create_commit(
        REPO, operations, commit_message=f"add {name}", repo_type="dataset", parent_commit=parent
    )
    return str(made.oid)


def test_commits_are_a_chain_and_keep_what_they_had(hub: HubServer, api: HfApi) -> None:
    first = commit(api, "a.parquet", b"large")
    second = commit(api, "b.txt", b"small", parent=first)
    assert [c.commit_id for c in api.list_repo_commits(REPO, repo_type="dataset")][:2] == [second, first]
    assert set(hub.files(REPO, first)) == {".gitattributes", "a.parquet"}
    assert hub.files(REPO)["a.parquet"] == b"large"


def test_commit_on_an_old_parent_is_refused(hub: HubServer, api: HfApi) -> None:
    first = commit(api, "a.txt", b"1")
    commit(api, "a.txt", b"2")
    with pytest.raises(HfHubHTTPError) as refused:
        commit(api, "a.txt", b"3", parent=first)
    assert refused.value.response.status_code == 412
    assert hub.files(REPO)["a.txt"] == b"2"


def test_file_that_is_not_there_cannot_be_deleted(api: HfApi) -> None:
    with pytest.raises(RemoteEntryNotFoundError):
        api.create_commit(REPO, [CommitOperationDelete("x")], commit_message="x", repo_type="dataset")


def test_tag_stays_where_it_is(hub: HubServer, api: HfApi) -> None:
    first = commit(api, "a.txt", b"1")
    api.create_tag(REPO, tag="v1", repo_type="dataset")
    commit(api, "a.txt", b"2")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag(REPO, tag="v1", repo_type="dataset")
    assert refused.value.response.status_code == 409
    assert hub.repos[REPO].tags == {"v1": first}


def test_who_may_see_and_write(hub: HubServer, api: HfApi) -> None:
    api.create_repo("org/secret", repo_type="dataset", visibility="private")
    with pytest.raises(HfHubHTTPError):
        HfApi(endpoint=hub.url, token=False).dataset_info("org/secret")
    reader = HfApi(endpoint=hub.url, token="hf_reader")
    assert reader.dataset_info("org/secret").private
    with pytest.raises(HfHubHTTPError) as refused:
        reader.create_tag("org/secret", tag="v1", repo_type="dataset")
    assert refused.value.response.status_code == 403
    assert api.whoami()["name"] == "maker"
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("org/none")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info("org/secret", revision="none")


def test_storage_that_checks_refuses_what_it_was_not_announced(hub: HubServer, api: HfApi) -> None:
    hub.faults = lambda received: corrupt() if received.route == "upload" else None
    with pytest.raises(RuntimeError):
        commit(api, "a.parquet", b"large")
    assert "a.parquet" not in hub.files(REPO)


def test_file_is_described_and_downloaded_as_from_the_hub(hub: HubServer, api: HfApi, tmp_path: Path) -> None:
    commit(api, "data/a.parquet", b"large")
    (info,) = api.get_paths_info(REPO, ["data/a.parquet"], repo_type="dataset")
    assert info.lfs is not None
    place = api.hf_hub_download(REPO, "data/a.parquet", repo_type="dataset", cache_dir=tmp_path)
    assert Path(place).resolve().name == info.lfs.sha256
    assert Path(place).read_bytes() == b"large"
    shallow = [entry.path for entry in api.list_repo_tree(REPO, repo_type="dataset")]
    assert shallow == ["data", ".gitattributes"]


@pytest.mark.parametrize(
    ("card", "right"),
    [
        ("---\nlicense: mit\ntags: [bias]\n---\nText", True),
        ("No front matter", False),
        ("---\nlicense: [mit\n---\n", False),
        ("---\nlicense: 7\n---\n", False),
    ],
)
def test_front_matter_is_checked(card: str, right: bool) -> None:
    assert (card_errors(card) == []) is right
