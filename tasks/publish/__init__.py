"""Publish releases to the Hugging Face Hub, and verify published ones.

A release is one commit, which is downloaded and compared before it is tagged. If publishing is interrupted,
the Hub shows either the previous release or the complete new one. Every step looks at the state of the Hub
first, so repeating the command completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.errors import GateError, InputError, PublishError
from schemas.release import Manifest
from schemas.tables import Row, file_hash
from tasks.publish.fetching import find_differences, find_differing_files, resolve_commit
from tasks.publish.hub import (
    ConflictError,
    Hub,
    NewCommit,
    NotFoundError,
    RepositoryState,
    check_repo_name,
    with_retries,
)
from tasks.publish.signing import describe_signature_fault
from tasks.release import (
    MANIFEST,
    MANIFEST_HASH,
    MANIFEST_SIGNATURE,
    is_version,
    parse_manifest,
    parse_version,
    read_manifest,
)
from tasks.release.references import HubRef
from tasks.run.progress import track

INITIAL_FILES = frozenset({"README.md"})
"""Files that a new dataset may have, besides hidden ones."""


@dataclass(frozen=True)
class ReleaseUpload:
    """A release that passed the gate and matches its manifest."""

    path: Path
    manifest: Manifest
    manifest_sha256: str
    """Identifies the release, because the manifest holds the hashes of all other files."""

    @property
    def tag(self) -> str:
        """The tag of the release."""
        return f"v{self.manifest.version}"

    @property
    def title(self) -> str:
        """The title of the commit."""
        return f"{self.manifest.name} {self.manifest.version}"

    @property
    def files(self) -> dict[str, Path]:
        """Local files by path in the repository."""
        names = [*sorted(self.manifest.files), MANIFEST]
        names += [name for name in (MANIFEST_HASH, MANIFEST_SIGNATURE) if (self.path / name).is_file()]
        return {name: self.path / name for name in names}


class Published(Row):
    """A release on the Hub."""

    repo: str
    version: str
    commit: str
    tag: str | None
    """`None` for a pull request. It is tagged if `publish` runs again after the merge."""
    url: str
    files: int
    new: bool
    """Whether the Hub was changed."""


def publish(
    release: Path,
    repo: str,
    hub: Hub,
    *,
    private: bool = False,
    propose: bool = False,
    description: str = "",
) -> Published:
    """Publish a release directory as a version of a dataset.

    Args:
        release: The release directory.
        repo: The dataset, such as `org/name`. It is created if it does not exist.
        hub: The client.
        private: Whether the dataset must be private.
        propose: Whether to open a pull request instead.
        description: Text of the pull request, or of the commit.

    Raises:
        InputError: If there is no release or no token.
        GateError: If the release did not pass the gate.
        PublishError: If it conflicts with the state of the dataset, or cannot be uploaded or verified.
    """
    check_repo_name(repo)
    upload = prepare_upload(release)
    if not hub.has_token:
        raise InputError("publishing needs a token", hint="set HF_TOKEN, or run `hf auth login`")
    with track(f"publishing {repo} {upload.tag}", None):
        return with_retries(
            partial(
                publish_missing,
                upload,
                repo,
                hub,
                private=private,
                propose=propose,
                description=description,
            )
        )


def prepare_upload(release: Path) -> ReleaseUpload:
    """Check a release before it is uploaded.

    Raises:
        GateError: If it did not pass the gate.
        PublishError: If its files were changed.
    """
    manifest = read_manifest(release)
    if manifest.validation.get("passed") != 1 or manifest.validation.get("errors") != 0:
        raise GateError(
            "the release has not passed validation",
            place=str(release / MANIFEST),
            hint="run `counterfoil validate` to see the errors. Correct them and build the release again",
        )
    raise_differences(
        find_differing_files(release, manifest),
        f"{release} was changed after it was released",
        hint="restore it, or build it again (finished steps are reused)",
    )
    return ReleaseUpload(release, manifest, file_hash(release / MANIFEST))


def publish_missing(
    upload: ReleaseUpload, repo: str, hub: Hub, *, private: bool, propose: bool, description: str = ""
) -> Published:
    """Do the steps that the state of the Hub lacks. Repeating this is safe after any failure."""
    state = open_dataset(repo, hub, private=private)
    if upload.tag in state.tags:
        return confirm_tag(upload, repo, hub, state)
    published = hub.read_file(repo, state.main, MANIFEST)
    if hash_manifest(published) == upload.manifest_sha256:
        verify_commit(upload, repo, hub, state.main)
        return add_tag(upload, repo, hub, state.main)
    if propose and (number := find_open_proposal(upload, repo, hub, state)):
        return confirm_proposal(upload, repo, hub, number, state.proposals[number])
    refuse_conflict(upload, repo, hub, state, published)
    commit = commit_upload(upload, repo, hub, state.main, propose=propose, description=description)
    verify_commit(upload, repo, hub, commit.oid)
    if propose:
        return _published(upload, repo, commit.oid, None, commit.url, new=True)
    return add_tag(upload, repo, hub, commit.oid)


def open_dataset(repo: str, hub: Hub, *, private: bool) -> RepositoryState:
    """Return the state of a dataset. Create it if it does not exist.

    Raises:
        InputError: If it must be private but is public.
    """
    try:
        state = hub.read_state(repo)
    except NotFoundError:
        hub.create(repo, private=private)
        state = hub.read_state(repo)
    if private and not hub.is_private(repo):
        raise InputError(
            f"{repo} is public, but --private is set",
            hint="make it private in its settings on the Hub, or leave --private out",
        )
    return state


def commit_upload(
    upload: ReleaseUpload, repo: str, hub: Hub, parent: str, *, propose: bool, description: str = ""
) -> NewCommit:
    """Commit all files of the release, and delete those that it does not have."""
    removed = exclude_hidden(hub.list_files(repo, parent)) - upload.files.keys()
    return hub.commit(
        repo,
        add=upload.files,
        delete=removed,
        message=upload.title,
        parent=parent,
        propose=propose,
        description=description,
    )


def add_tag(upload: ReleaseUpload, repo: str, hub: Hub, commit: str) -> Published:
    """Tag the commit. If the tag was created at the same time, verify it instead."""
    try:
        hub.tag(repo, upload.tag, commit, f"sha256 of {MANIFEST}: {upload.manifest_sha256}")
    except ConflictError:
        return confirm_tag(upload, repo, hub, hub.read_state(repo))
    return _published(upload, repo, commit, upload.tag, tag_url(hub, repo, upload.tag), new=True)


def confirm_tag(upload: ReleaseUpload, repo: str, hub: Hub, state: RepositoryState) -> Published:
    """Verify that the existing tag points to this release. Raise `PublishError` if it does not."""
    commit = state.tags[upload.tag]
    if hash_manifest(hub.read_file(repo, commit, MANIFEST)) != upload.manifest_sha256:
        raise PublishError(
            f"the tag {upload.tag} of {repo} is another release",
            hint="a tag never moves. Build again from the published release, which gives the next version",
        )
    verify_commit(upload, repo, hub, commit)
    return _published(upload, repo, commit, upload.tag, tag_url(hub, repo, upload.tag), new=False)


def find_open_proposal(upload: ReleaseUpload, repo: str, hub: Hub, state: RepositoryState) -> int | None:
    """Return the number of the open pull request with this release, or `None`."""
    for number, head in sorted(state.proposals.items()):
        manifest = hub.read_file(repo, head, MANIFEST)
        if hash_manifest(manifest) == upload.manifest_sha256 and hub.is_open(repo, number):
            return number
    return None


def confirm_proposal(upload: ReleaseUpload, repo: str, hub: Hub, number: int, head: str) -> Published:
    """Verify that the pull request has the complete release. Raise `PublishError` if it does not."""
    verify_commit(upload, repo, hub, head)
    return _published(upload, repo, head, None, f"{hub.page(repo)}/discussions/{number}", new=False)


def tag_url(hub: Hub, repo: str, tag: str) -> str:
    """Return the URL of a tag of a dataset."""
    return f"{hub.page(repo)}/tree/{tag}"


def _published(
    upload: ReleaseUpload, repo: str, commit: str, tag: str | None, url: str, *, new: bool
) -> Published:
    return Published(
        repo=repo,
        version=upload.manifest.version,
        commit=commit,
        tag=tag,
        url=url,
        files=len(upload.files),
        new=new,
    )


# Verifying commits


def verify_commit(upload: ReleaseUpload, repo: str, hub: Hub, commit: str) -> None:
    """Download a commit and compare all files with the release, twice if they differ.

    Raises:
        PublishError: If files differ. The commit is reverted first if it is ours, the last of main, and not
        tagged.
    """
    differences = compare_download(upload, repo, hub, commit)
    if differences:
        differences = compare_download(upload, repo, hub, commit)
    reverted = bool(differences) and revert_commit(upload, repo, hub, commit)
    raise_differences(
        differences,
        f"the files of {repo} at {commit[:12]} are not those of the release",
        hint="the commit was taken back. Run the same command again"
        if reverted
        else "the files on the Hub were changed or stored wrongly. Restore them, or publish the next version",
    )


def compare_download(upload: ReleaseUpload, repo: str, hub: Hub, commit: str) -> list[str]:
    """Download a commit and return one line per file that differs from the release."""
    with TemporaryDirectory(prefix="counterfoil-") as folder:
        hub.download(repo, commit, Path(folder))
        lines = find_differing_files(Path(folder), upload.manifest)
        manifest = Path(folder) / MANIFEST
        if not manifest.is_file() or file_hash(manifest) != upload.manifest_sha256:
            lines.append(f"{MANIFEST}: it is not the manifest of this release")
        return lines


def revert_commit(upload: ReleaseUpload, repo: str, hub: Hub, commit: str) -> bool:
    """Restore the previous files of main. Return `False` if the commit is not ours or not the last."""
    state = hub.read_state(repo)
    if state.main != commit or commit in state.tags.values():
        return False
    last, previous, *_ = [*hub.list_commits(repo, commit), None, None]
    if last is None or previous is None or last.title != upload.title:
        return False
    hub.restore(repo, to=previous.oid, parent=commit, message=f"Take back {upload.title}")
    return True


def hash_manifest(manifest: bytes | None) -> str | None:
    """Return the hash that identifies a release, or `None` without a manifest."""
    return sha256(manifest).hexdigest() if manifest is not None else None


def raise_differences(lines: Sequence[str], message: str, *, hint: str) -> None:
    """Raise `PublishError` with one line per difference, if there is any."""
    if lines:
        raise PublishError("\n".join([f"{message}:", *(f"  {line}" for line in lines)]), hint=hint)


def exclude_hidden(files: Iterable[str]) -> set[str]:
    """Return the files that are not hidden. Hidden files belong to the Hub."""
    return {name for name in files if not any(part.startswith(".") for part in name.split("/"))}


# Conflicts


def refuse_conflict(
    upload: ReleaseUpload, repo: str, hub: Hub, state: RepositoryState, content: bytes | None
) -> None:
    """Raise `PublishError` unless main has exactly the release that this one was compared with.

    Args:
        upload: The release to publish.
        repo: The dataset.
        hub: The client.
        state: State of the dataset.
        content: The manifest on main, or `None` if there is none.
    """
    if content is None:
        return refuse_foreign_files(repo, hub, state)
    published = parse_published_manifest(content, repo)
    ours, compared = upload.manifest, upload.manifest.comparison
    if published.name != ours.name:
        raise PublishError(
            f"{repo} has the releases of {published.name!r}, not of {ours.name!r}",
            hint="give the dataset of this release, or a new one",
        )
    same = compared.old_manifest in (None, hash_manifest(content))
    if published.version != compared.old_version or not same:
        raise PublishError(
            f"{repo} is at {published.version}, but this release was compared with "
            + ("nothing" if compared.old_version is None else f"a local build of {compared.old_version}"),
            hint="put the published release into the releases folder and build again to compare them",
        )
    refuse_unfinished(published, repo, hub, state)
    return None


def refuse_foreign_files(repo: str, hub: Hub, state: RepositoryState) -> None:
    """Raise `PublishError` if a dataset without a release has files or version tags."""
    foreign = exclude_hidden(hub.list_files(repo, state.main)) - INITIAL_FILES
    if foreign or any(is_version(tag.removeprefix("v")) for tag in state.tags):
        named = ", ".join(sorted(foreign)[:5]) or "tagged versions"
        raise PublishError(
            f"{repo} is not empty and has no counterfoil release: {named}",
            hint="publishing would replace it. Give another name with --repo",
        )


def refuse_unfinished(published: Manifest, repo: str, hub: Hub, state: RepositoryState) -> None:
    """Raise `PublishError` if main is not the latest tagged version without further changes."""
    tag = f"v{published.version}"
    versions = [t.removeprefix("v") for t in state.tags if t.startswith("v") and is_version(t[1:])]
    if tag not in state.tags:
        raise PublishError(
            f"{repo} is at {published.version}, which has no tag because it was not published completely",
            hint="publish that release again to complete it, then publish this one",
        )
    if max(versions, key=parse_version) != published.version:
        raise PublishError(
            f"{repo} is at {published.version}, but has a higher version",
            hint="bring main to the latest version on the Hub first",
        )
    if state.tags[tag] != state.main:
        tagged, current = hub.list_files(repo, state.tags[tag]), hub.list_files(repo, state.main)
        names = exclude_hidden(tagged) | exclude_hidden(current)
        changed = sorted(name for name in names if tagged.get(name) != current.get(name))
        if changed:
            raise PublishError(
                f"main of {repo} was changed since {tag}: {', '.join(changed[:5])}",
                hint="publishing would undo the change. Add it to the build, and revert it on the Hub",
            )


def parse_published_manifest(content: bytes, repo: str) -> Manifest:
    """Parse a published manifest. Raise `PublishError` if it is invalid."""
    try:
        return parse_manifest(content, repo)
    except InputError as error:
        raise PublishError(
            f"the manifest of {repo} cannot be read",
            hint="it was edited by hand or written by a newer version of counterfoil",
        ) from error


# Verifying releases


class Verified(Row):
    """The result of a verification."""

    release: str
    name: str
    version: str
    commit: str | None
    """Commit of the tag. `None` for a directory."""
    files: int
    rows: dict[str, int]
    verified: bool
    differences: tuple[str, ...]
    """One line per difference from the manifest or the card."""


def verify(release: str, open_hub: Callable[[], Hub] = Hub, *, signed_by: Path | None = None) -> Verified:
    """Verify a release directory, or a fresh download of a published release.

    Args:
        release: A directory, or a reference such as `org/name@v1.2.0`.
        open_hub: Creates the client for a reference.
        signed_by: File of accepted signers of the release.

    Raises:
        InputError: If the release does not exist.
        PublishError: If the Hub cannot be reached.
    """
    ref = HubRef.of(release)
    if ref is None:
        return verify_directory(Path(release), release, signed_by)
    hub = open_hub()
    commit = with_retries(lambda: resolve_commit(ref, hub))

    def download_and_verify() -> Verified:
        with TemporaryDirectory(prefix="counterfoil-") as folder:
            hub.download(ref.repo, commit, Path(folder))
            return verify_directory(Path(folder), release, signed_by)

    with track(f"downloading {release}", None):
        result = with_retries(download_and_verify)
    mismatch = []
    if not ref.fits(result):
        mismatch.append(f"manifest.json: it is the manifest of {result.version}, not of {ref.tag}")
    return result.model_copy(
        update={
            "commit": commit,
            "differences": (*mismatch, *result.differences),
            "verified": result.verified and not mismatch,
        }
    )


def verify_directory(path: Path, name: str, signed_by: Path | None = None) -> Verified:
    """Verify the hashes, row counts, canary and columns of a release directory.

    Every fault of the content is a line of the result. An unreadable manifest has no name and no version.

    Raises:
        InputError: If the directory does not exist or has no manifest.
    """
    if not path.is_dir():
        raise InputError(
            f"the release {name} does not exist", hint="give a release directory, or org/name@v1.0.0"
        )
    lines = find_differences(path)
    if signed_by is not None and (fault := describe_signature_fault(path, signed_by)):
        lines = sorted({*lines, fault})
    try:
        manifest = read_manifest(path)
    except InputError as error:
        if not (path / MANIFEST).exists():
            raise
        lines = sorted({*lines, f"{MANIFEST}: {error.message}"})
        return Verified(
            release=name,
            name="",
            version="",
            commit=None,
            files=0,
            rows={},
            verified=False,
            differences=tuple(lines),
        )
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


def raise_if_different(result: Verified) -> None:
    """Raise `PublishError` if the release differs. The caller prints the differences."""
    if result.differences:
        count = len(result.differences)
        raise PublishError(
            f"{result.release} does not match its manifest: {count} difference{'s' if count != 1 else ''}",
            hint="each line names a file. Download the release again from where it was published",
        )
