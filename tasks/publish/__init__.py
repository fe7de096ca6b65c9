"""A release on its way: checked before it leaves, and known by the sha256 of its manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from schemas.errors import GateError, InputError, PublishError
from schemas.release import Manifest
from schemas.tables import Row, file_hash
from tasks.publish.fetching import commit_of, differences, differing_files
from tasks.publish.hub import (
    Committed,
    Hub,
    NotThereError,
    OvertakenError,
    RepositoryState,
    check_name,
    with_retries,
)
from tasks.release import MANIFEST, is_version, parse_version, read_manifest
from tasks.release.references import HubRef
from tasks.run.progress import track


@dataclass(frozen=True)
class ReleaseUpload:
    """A release that may be published: its files are what its manifest says, and the gate passed."""

    path: Path
    manifest: Manifest
    seal: str
    """sha256 of manifest.json, which holds those of all other files."""

    @property
    def tag(self) -> str:
        return f"v{self.manifest.version}"

    @property
    def title(self) -> str:
        """Of the commit that brings it."""
        return f"{self.manifest.name} {self.manifest.version}"

    @property
    def files(self) -> dict[str, Path]:
        return {name: self.path / name for name in (*sorted(self.manifest.files), MANIFEST)}


def pack(release: Path) -> ReleaseUpload:
    """The release, checked. Raises `GateError` if it never passed the gate, `PublishError` if it changed."""
    manifest = read_manifest(release)
    if manifest.validation.get("passed") != 1 or manifest.validation.get("errors") != 0:
        raise GateError(
            "the release has not passed validation",
            place=str(release / MANIFEST),
            hint="`counterfoil validate` says what to mend; build it again then",
        )
    refuse_different(
        differing_files(release, manifest),
        f"{release} is not what was released",
        hint="restore it, or build it again: finished steps are kept",
    )
    return ReleaseUpload(release, manifest, file_hash(release / MANIFEST))


def seal_of(manifest: bytes | None) -> str | None:
    """What tells one release from every other; `None` where there is none."""
    return sha256(manifest).hexdigest() if manifest is not None else None


def refuse_different(lines: Sequence[str], what: str, *, hint: str) -> None:
    """Raise `PublishError` with one line a file, where there is any."""
    if lines:
        raise PublishError("\n".join([f"{what}:", *(f"  {line}" for line in lines)]), hint=hint)


# Verify: recompute what a release promises. Anyone can, for a directory or a published version.


class Verified(Row):
    """What was found. `differences` has one line for every file that is not as promised."""

    release: str
    name: str
    version: str
    commit: str | None
    """The one that the tag names; `None` for a directory."""
    files: int
    rows: dict[str, int]
    verified: bool
    differences: tuple[str, ...]


def verify(release: str, open_hub: Callable[[], Hub] = Hub) -> Verified:
    """A directory, or `org/name@v1.2.0`, freshly downloaded; only for that a Hub is opened.

    Raises `InputError` where there is no release, `PublishError` where the Hub cannot be reached.
    """
    ref = HubRef.of(release)
    if ref is None:
        return verify_directory(Path(release), release)
    hub = open_hub()
    commit = with_retries(lambda: commit_of(ref, hub))

    def fetch_and_verify() -> Verified:
        with TemporaryDirectory(prefix="counterfoil-") as room:
            hub.download(ref.repo, commit, Path(room))
            return verify_directory(Path(room), release)

    with track(f"downloading {release}", None):
        found = with_retries(fetch_and_verify)
    wrong = [f"manifest.json: it is that of {found.version}, not of {ref.tag}"] if not ref.fits(found) else []
    return found.model_copy(
        update={
            "commit": commit,
            "differences": (*wrong, *found.differences),
            "verified": found.verified and not wrong,
        }
    )


def verify_directory(path: Path, name: str) -> Verified:
    """Every sha256 of the manifest, row counts, the canary, the columns."""
    if not path.is_dir():
        raise InputError(f"there is no release {name}", hint="give a release directory, or org/name@v1.0.0")
    manifest: Manifest = read_manifest(path)
    lines = differences(path)
    return Verified(
        release=name,
        name=manifest.name,
        version=manifest.version,
        commit=None,
        files=len(manifest.files) + 1,
        rows=manifest.rows,
        verified=not lines,
        differences=tuple(lines),
    )


def raise_if_different(found: Verified) -> None:
    """Raise `PublishError` where anything differs; the lines are told by who calls."""
    if found.differences:
        count = len(found.differences)
        raise PublishError(
            f"{found.release} is not what its manifest says: {count} difference{'s' if count != 1 else ''}",
            hint="each line names a file; take the release from where it was published",
        )


# Conflicts: a release goes only where the very release is that it was compared with.


BLANK = frozenset({"README.md"})
"""What a new dataset may hold, beside hidden files, without being someone's data."""


def refuse_conflict(
    parcel: ReleaseUpload, repo: str, hub: Hub, shown: RepositoryState, content: bytes | None
) -> None:
    """Raise `PublishError` unless main shows the very release that this one was compared with. `content`:
    the manifest that main shows."""
    if content is None:
        return refuse_strangers(repo, hub, shown)
    there = parse_manifest(content, repo)
    ours, compared = parcel.manifest, parcel.manifest.comparison
    if there.name != ours.name:
        raise PublishError(
            f"{repo} holds the releases of {there.name!r}, not of {ours.name!r}",
            hint="give the dataset of this release line, or a new one",
        )
    same = compared.old_manifest in (None, seal_of(content))
    if there.version != compared.old_version or not same:
        raise PublishError(
            f"{repo} is at {there.version}; this release was compared with "
            + ("nothing" if compared.old_version is None else f"{compared.old_version} as it was built here"),
            hint="build again with the published release in the releases folder, so that they are compared",
        )
    refuse_unfinished(there, repo, hub, shown)
    return None


def refuse_strangers(repo: str, hub: Hub, shown: RepositoryState) -> None:
    """Raise `PublishError` where a dataset without a release holds files, or versions."""
    strangers = visible(hub.files(repo, shown.main)) - BLANK
    if strangers or any(is_version(tag.removeprefix("v")) for tag in shown.tags):
        named = ", ".join(sorted(strangers)[:5]) or "tagged versions"
        raise PublishError(
            f"{repo} is not empty and shows no release of ours: {named}",
            hint="publishing would replace it: give another name with --repo",
        )


def refuse_unfinished(there: Manifest, repo: str, hub: Hub, shown: RepositoryState) -> None:
    """Raise `PublishError` where what main shows is not, or not only, the latest tagged version."""
    tag = f"v{there.version}"
    versions = [t.removeprefix("v") for t in shown.tags if t.startswith("v") and is_version(t[1:])]
    if tag not in shown.tags:
        raise PublishError(
            f"{repo} shows {there.version}, which has no tag: it was not published to the end",
            hint="publish that release again, which finishes it; then this one",
        )
    if max(versions, key=parse_version) != there.version:
        raise PublishError(
            f"{repo} has a higher version than the {there.version} that it shows",
            hint="bring main to the latest version on the Hub first",
        )
    if shown.tags[tag] != shown.main:
        then, now = hub.files(repo, shown.tags[tag]), hub.files(repo, shown.main)
        changed = sorted(name for name in visible(then) | visible(now) if then.get(name) != now.get(name))
        if changed:
            raise PublishError(
                f"main of {repo} was changed since {tag}: {', '.join(changed[:5])}",
                hint="publishing would undo that: bring the change into the build, and undo it on the Hub",
            )


def parse_manifest(content: bytes, repo: str) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        raise PublishError(
            f"the manifest that {repo} shows cannot be read",
            hint="it was changed by hand, or written by a newer version of counterfoil",
        ) from None


def visible(files: Iterable[str]) -> set[str]:
    """Without hidden files: they are the Hub's own."""
    return {name for name in files if not any(part.startswith(".") for part in name.split("/"))}


# Publish: a release goes to the Hub whole. One commit, read back byte by byte, then the tag.
#
# Interrupted anywhere, the Hub shows the release before or the whole new one; done again, what is missing is
# done. So a failure that may pass is met by doing it again: it looks at what is there first.


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
        return with_retries(partial(do_what_is_missing, parcel, repo, hub, private=private, propose=propose))


def do_what_is_missing(
    parcel: ReleaseUpload, repo: str, hub: Hub, *, private: bool, propose: bool
) -> Published:
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


def open_dataset(repo: str, hub: Hub, *, private: bool) -> RepositoryState:
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


def confirm_tagged(parcel: ReleaseUpload, repo: str, hub: Hub, shown: RepositoryState) -> Published:
    """The version is there. Raises `PublishError` where it is another release: a tag never moves."""
    commit = shown.tags[parcel.tag]
    if seal_of(hub.read(repo, commit, MANIFEST)) != parcel.seal:
        raise PublishError(
            f"{repo} has a {parcel.tag} already, and it is another release",
            hint="a tag never moves: build against what is published, which makes the next version",
        )
    read_back(parcel, repo, hub, commit)
    return _published(parcel, repo, commit, parcel.tag, tree_page(hub, repo, parcel.tag), new=False)


def send(parcel: ReleaseUpload, repo: str, hub: Hub, parent: str, *, propose: bool) -> Committed:
    """One commit with every file, and without those that are no longer in the release."""
    gone = visible(hub.files(repo, parent)) - parcel.files.keys()
    return hub.commit(
        repo, add=parcel.files, delete=gone, message=parcel.title, parent=parent, propose=propose
    )


def open_proposal(parcel: ReleaseUpload, repo: str, hub: Hub, shown: RepositoryState) -> int | None:
    """The number of the open pull request that brings this release, if there is one."""
    for number, head in sorted(shown.proposals.items()):
        if seal_of(hub.read(repo, head, MANIFEST)) == parcel.seal and hub.is_open(repo, number):
            return number
    return None


def confirm_proposed(parcel: ReleaseUpload, repo: str, hub: Hub, number: int, head: str) -> Published:
    """The pull request is there. Raises `PublishError` where it does not bring the whole release."""
    read_back(parcel, repo, hub, head)
    return _published(parcel, repo, head, None, f"{hub.page(repo)}/discussions/{number}", new=False)


def read_back(parcel: ReleaseUpload, repo: str, hub: Hub, commit: str) -> None:
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


def take_back(parcel: ReleaseUpload, repo: str, hub: Hub, commit: str) -> bool:
    """Make main show again what it showed before. `False` where that commit is not ours to take back."""
    shown = hub.look(repo)
    if shown.main != commit or commit in shown.tags.values():
        return False
    last, before, *_ = [*hub.history(repo, commit), None, None]
    if last is None or before is None or last.title != parcel.title:
        return False
    hub.restore(repo, to=before.oid, parent=commit, message=f"Take back {parcel.title}")
    return True


def downloaded_wrong(parcel: ReleaseUpload, repo: str, hub: Hub, commit: str) -> list[str]:
    """One line for every file that came back otherwise than it is here."""
    with TemporaryDirectory(prefix="counterfoil-") as room:
        hub.download(repo, commit, Path(room))
        lines = differing_files(Path(room), parcel.manifest)
        manifest = Path(room) / MANIFEST
        if not manifest.is_file() or file_hash(manifest) != parcel.seal:
            lines.append(f"{MANIFEST}: it is not the one of this release")
        return lines


def give_tag(parcel: ReleaseUpload, repo: str, hub: Hub, commit: str) -> Published:
    """Tag the commit, unless someone who published the same was faster."""
    try:
        hub.tag(repo, parcel.tag, commit)
    except OvertakenError:
        return confirm_tagged(parcel, repo, hub, hub.look(repo))
    return _published(parcel, repo, commit, parcel.tag, tree_page(hub, repo, parcel.tag), new=True)


def tree_page(hub: Hub, repo: str, tag: str) -> str:
    return f"{hub.page(repo)}/tree/{tag}"


def _published(
    parcel: ReleaseUpload, repo: str, commit: str, tag: str | None, url: str, *, new: bool
) -> Published:
    return Published(
        repo=repo,
        version=parcel.manifest.version,
        commit=commit,
        tag=tag,
        url=url,
        files=len(parcel.files),
        new=new,
    )
