"""Publish: a release goes to the Hub whole. One commit, read back byte by byte, then the tag.

Interrupted anywhere, the Hub shows the release before or the whole new one; done again, what is missing is
done. So a failure that may pass is met by doing it again: it looks at what is there first.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.errors import InputError, PublishError
from schemas.ids import file_hash
from schemas.tables import Row
from tasks.progress import track
from tasks.release.conflicts import refuse_conflict, visible
from tasks.release.hub import Committed, Hub, Shown, check_name
from tasks.release.hub_errors import NotThereError, OvertakenError, patiently
from tasks.release.integrity import differing_files
from tasks.release.parcel import Parcel, pack, refuse_different, seal_of
from tasks.release.reading import MANIFEST


class Published(Row):
    """Where a release is on the Hub now."""

    repo: str
    version: str
    commit: str
    tag: str | None
    """`None` for a pull request: it is tagged when it was merged and `publish` is run again."""
    url: str
    files: int
    new: bool
    """Whether anything had to be done."""


def publish(release: Path, repo: str, hub: Hub, *, private: bool = False, propose: bool = False) -> Published:
    """Publish a release directory as a version of the dataset `repo`, or propose it as a pull request.

    Raises `InputError` or `GateError` where it is no release that may be published, and `PublishError` for a
    conflict, for what cannot be verified, and where the Hub cannot be reached.
    """
    check_name(repo)
    parcel = pack(release)
    if not hub.has_token:
        raise InputError("there is no token to publish with", hint="set HF_TOKEN, or run `hf auth login`")
    with track(f"publishing {repo} {parcel.tag}", None):
        return patiently(partial(do_what_is_missing, parcel, repo, hub, private=private, propose=propose))


def do_what_is_missing(parcel: Parcel, repo: str, hub: Hub, *, private: bool, propose: bool) -> Published:
    """Look at the Hub, do what is not there yet. Safe to repeat, whatever became of the last try."""
    shown = open_dataset(repo, hub, private=private)
    if parcel.tag in shown.tags:
        return confirm_tagged(parcel, repo, hub, shown)
    there = hub.read(repo, shown.main, MANIFEST)
    if seal_of(there) == parcel.seal:
        read_back(parcel, repo, hub, shown.main)
        return give_tag(parcel, repo, hub, shown.main)
    if propose and (number := open_proposal(parcel, repo, hub, shown)):
        return confirm_proposed(parcel, repo, hub, number, shown.proposals[number])
    refuse_conflict(parcel, repo, hub, shown, there)
    made = send(parcel, repo, hub, shown.main, propose=propose)
    read_back(parcel, repo, hub, made.oid)
    if propose:
        return _published(parcel, repo, made.oid, None, made.url, new=True)
    return give_tag(parcel, repo, hub, made.oid)


def open_dataset(repo: str, hub: Hub, *, private: bool) -> Shown:
    """What the dataset shows; it is created if it is not there. Raises `InputError` for a public one that
    is to be private."""
    try:
        shown = hub.look(repo)
    except NotThereError:
        hub.create(repo, private=private)
        shown = hub.look(repo)
    if private and not hub.is_private(repo):
        raise InputError(
            f"{repo} is public, and --private was asked for",
            hint="make it private in its settings on the Hub, or leave --private out",
        )
    return shown


def confirm_tagged(parcel: Parcel, repo: str, hub: Hub, shown: Shown) -> Published:
    """The version is there. Raises `PublishError` where it is another release: a tag never moves."""
    commit = shown.tags[parcel.tag]
    if seal_of(hub.read(repo, commit, MANIFEST)) != parcel.seal:
        raise PublishError(
            f"{repo} has a {parcel.tag} already, and it is another release",
            hint="a tag never moves: build against what is published, which makes the next version",
        )
    read_back(parcel, repo, hub, commit)
    return _published(parcel, repo, commit, parcel.tag, tree_page(hub, repo, parcel.tag), new=False)


def send(parcel: Parcel, repo: str, hub: Hub, parent: str, *, propose: bool) -> Committed:
    """One commit with every file, and without those that are no longer in the release."""
    gone = visible(hub.files(repo, parent)) - parcel.files.keys()
    return hub.commit(
        repo, add=parcel.files, delete=gone, message=parcel.title, parent=parent, propose=propose
    )


def open_proposal(parcel: Parcel, repo: str, hub: Hub, shown: Shown) -> int | None:
    """The number of the open pull request that brings this release, if there is one."""
    for number, head in sorted(shown.proposals.items()):
        if seal_of(hub.read(repo, head, MANIFEST)) == parcel.seal and hub.is_open(repo, number):
            return number
    return None


def confirm_proposed(parcel: Parcel, repo: str, hub: Hub, number: int, head: str) -> Published:
    """The pull request is there. Raises `PublishError` where it does not bring the whole release."""
    read_back(parcel, repo, hub, head)
    return _published(parcel, repo, head, None, f"{hub.page(repo)}/discussions/{number}", new=False)


def read_back(parcel: Parcel, repo: str, hub: Hub, commit: str) -> None:
    """Download everything and compare every sha256, twice where one differs. Raises `PublishError`; where
    the commit is ours and main's last, and has no tag yet, it is taken back first."""
    wrong = downloaded_wrong(parcel, repo, hub, commit) and downloaded_wrong(parcel, repo, hub, commit)
    taken_back = bool(wrong) and take_back(parcel, repo, hub, commit)
    refuse_different(
        wrong,
        f"what {repo} holds at {commit[:12]} is not the release",
        hint="the commit was taken back; run the same command again"
        if taken_back
        else "the Hub's files were changed or kept wrongly: restore them there, or publish the next version",
    )


def take_back(parcel: Parcel, repo: str, hub: Hub, commit: str) -> bool:
    """Make main show again what it showed before. `False` where that commit is not ours to take back."""
    shown = hub.look(repo)
    if shown.main != commit or commit in shown.tags.values():
        return False
    last, before, *_ = [*hub.history(repo, commit), None, None]
    if last is None or before is None or last.title != parcel.title:
        return False
    hub.restore(repo, to=before.oid, parent=commit, message=f"Take back {parcel.title}")
    return True


def downloaded_wrong(parcel: Parcel, repo: str, hub: Hub, commit: str) -> list[str]:
    """One line for every file that came back otherwise than it is here."""
    with TemporaryDirectory(prefix="counterfoil-") as room:
        hub.download(repo, commit, Path(room))
        lines = differing_files(Path(room), parcel.manifest)
        manifest = Path(room) / MANIFEST
        if not manifest.is_file() or file_hash(manifest) != parcel.seal:
            lines.append(f"{MANIFEST}: it is not the one of this release")
        return lines


def give_tag(parcel: Parcel, repo: str, hub: Hub, commit: str) -> Published:
    """Tag the commit, unless someone who published the same was faster."""
    try:
        hub.tag(repo, parcel.tag, commit)
    except OvertakenError:
        return confirm_tagged(parcel, repo, hub, hub.look(repo))
    return _published(parcel, repo, commit, parcel.tag, tree_page(hub, repo, parcel.tag), new=True)


def tree_page(hub: Hub, repo: str, tag: str) -> str:
    return f"{hub.page(repo)}/tree/{tag}"


def _published(parcel: Parcel, repo: str, commit: str, tag: str | None, url: str, *, new: bool) -> Published:
    return Published(
        repo=repo,
        version=parcel.manifest.version,
        commit=commit,
        tag=tag,
        url=url,
        files=len(parcel.files),
        new=new,
    )
