"""The client of the Hugging Face Hub. This is the only module that imports huggingface_hub.

It handles datasets only. Errors name the action that failed, and never contain the token. Files are uploaded
through Xet if the endpoint offers it, or else through Git LFS.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.errors import CounterfoilError, InputError, MachineError, PublishError
from tasks.run.retries import Backoff, Retries, RetryPolicy, parse_retry_after
from tasks.text.redaction import redact_secrets

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
    from huggingface_hub.hf_api import RepoFile


T = TypeVar("T")

RETRY_POLICY = RetryPolicy(attempts=5, backoff=Backoff(first_s=1.0, longest_s=60.0), longest_wait_s=120.0)

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses of failures that may not recur."""
CONFLICT_STATUSES = frozenset({409, 412})
"""HTTP statuses of changes by others since the state was read."""
_EXHAUSTED_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")


class TransientError(Exception):
    """A failure that may not recur."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        """Requested wait in seconds."""


class NotFoundError(InputError):
    """The dataset, revision or file does not exist, or is not visible with this token."""


class ConflictError(PublishError):
    """Someone else changed the dataset at the same time."""


def with_retries(action: Callable[[], T]) -> T:
    """Call `action` until it succeeds. Retry after every `TransientError`.

    Args:
        action: Safe to repeat: it looks at the state of the Hub before it changes anything.

    Raises:
        PublishError: If the attempts are used up, or the Hub asks for a longer wait than the policy allows.
    """
    retries = Retries(RETRY_POLICY)
    while True:
        try:
            return action()
        except TransientError as fault:
            message, requested_s = str(fault), fault.wait_s
        wait_s = retries.next_wait_s(requested_s)
        if wait_s is None:
            break
        time.sleep(wait_s)
    if RETRY_POLICY.is_too_long(requested_s):
        message += f" (it requests a wait of {requested_s:.0f} s)"
    raise PublishError(message, hint="run the same command again to continue")


def convert_error(error: Exception, action: str, secret: str | None) -> Exception:
    """Convert an error of the client to one of ours.

    Args:
        error: The error.
        action: Description of the call, for the message.
        secret: The token. It is redacted, and so are the query strings of URLs.

    Returns:
        The error to raise. Unknown errors are returned unchanged.
    """
    if isinstance(error, CounterfoilError):
        return error
    causes = list(_causes(error))
    passing = next((cause for cause in causes if isinstance(cause, TransientError)), None)
    if passing is not None:
        return TransientError(f"{action}: {passing}", passing.wait_s)
    if any(type(cause).__name__ == "OfflineModeIsEnabled" for cause in causes):
        return InputError(f"{action}: HF_HUB_OFFLINE is set", hint="unset it, or set it to 0")
    answered = next((c for c in causes if getattr(c, "response", None) is not None), None)
    if answered is not None:
        return _convert_response(answered, action, secret)
    if any(_is_transient(cause) for cause in causes):
        return TransientError(f"{action}: the Hub cannot be reached or does not answer")
    if isinstance(error, (ValueError, RuntimeError)):
        return PublishError(
            f"{action}: {_redact_message(str(error), secret)}", hint="nothing was changed on the Hub"
        )
    return error


def _convert_response(error: BaseException, action: str, secret: str | None) -> Exception:
    response: Any = getattr(error, "response")  # noqa: B009
    status = int(response.status_code)
    reason = _redact_message(str(getattr(error, "server_message", None) or "no reason given"), secret)
    message = f"{action}: the Hub answered {status}: {reason}"
    if status in TRANSIENT_STATUSES:
        headers = response.headers
        return TransientError(message, _wait_s(headers.get("Retry-After"), headers.get("RateLimit")))
    if status in CONFLICT_STATUSES:
        return ConflictError(message, hint="run the same command again to see the current state")
    if status == 404:
        return NotFoundError(message, hint="check the name. A private dataset needs a token with read access")
    if status in (401, 403):
        return InputError(
            message, hint="set HF_TOKEN to a token with this permission, or run `hf auth login`"
        )
    return PublishError(message, hint="this request changed nothing")


def reject_long_wait(response: Any) -> None:
    """Raise `TransientError` if a busy Hub requests a long wait. The client would sleep through it."""
    wait_s = _wait_s(response.headers.get("Retry-After"), response.headers.get("RateLimit"))
    if response.status_code in TRANSIENT_STATUSES and RETRY_POLICY.is_too_long(wait_s):
        raise TransientError(f"the Hub answered {response.status_code}", wait_s)


def _wait_s(retry_after: str | None, rate_limit: str | None = None) -> float | None:
    """Return the requested wait in seconds: `Retry-After: 30`, or `RateLimit: "api";r=0;t=30`."""
    exhausted = _EXHAUSTED_LIMIT.search(rate_limit or "")
    return float(exhausted[1]) if exhausted else parse_retry_after(retry_after, time.time())


def _is_transient(error: BaseException) -> bool:
    """Return whether a connection failed, a download was truncated, or an answer is not JSON.

    Errors of local files have an `errno` and are not transient.
    """
    if any(kind.__name__ == "TransportError" for kind in type(error).__mro__):
        return True
    if isinstance(error, (ConnectionError, TimeoutError, json.JSONDecodeError)):
        return True
    return isinstance(error, OSError) and error.errno is None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__


def _redact_message(text: str, secret: str | None) -> str:
    return redact_secrets(_QUERY.sub(r"\1", " ".join(text.split())), secret)


# Client

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
MAIN = "main"
MAX_FILES = 10_000
"""Files of a dataset that is downloaded."""
SPARE_BYTES = 1 << 30
"""Space on the disk that a download leaves free."""
TIMEOUT_S = 120.0
"""Timeout per Hub request in seconds. The client has none of its own."""


@dataclass(frozen=True)
class RepositoryState:
    """The commits of the branch, tags and pull requests of a dataset."""

    main: str
    tags: Mapping[str, str]
    proposals: Mapping[int, str]
    """Last commit of each pull request, open or not."""


@dataclass(frozen=True)
class PastCommit:
    """A commit in the history of a dataset."""

    oid: str
    title: str


@dataclass(frozen=True)
class NewCommit:
    """A commit that was just made."""

    oid: str
    url: str
    """Page of the commit, or of its pull request."""


class Hub:
    """A client for one endpoint (`HF_ENDPOINT`) and one token (`HF_TOKEN`, or that of `hf auth login`)."""

    def __init__(self, token: str | None = None, endpoint: str | None = None) -> None:
        from huggingface_hub import HfApi, get_token

        _configure_client()
        self._token = token or get_token()
        self._api = HfApi(
            endpoint=(endpoint or os.environ.get("HF_ENDPOINT") or None),
            token=self._token or False,
            library_name="counterfoil",
        )

    @property
    def has_token(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def page(self, repo: str) -> str:
        """Return the URL of a dataset."""
        return f"{self._api.endpoint}/datasets/{repo}"

    def create(self, repo: str, *, private: bool) -> None:
        """Create a dataset if it does not exist."""
        self._call(
            f"creating {repo}",
            lambda: self._api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True),
        )

    def is_private(self, repo: str) -> bool:
        """Return whether a dataset is private."""
        info = self._call(f"looking at {repo}", lambda: self._api.dataset_info(repo))
        return bool(info.private)

    def read_state(self, repo: str) -> RepositoryState:
        """Return the commits of a dataset.

        Raises:
            NotFoundError: If the dataset does not exist.
        """
        refs = self._call(
            f"looking at {repo}",
            lambda: self._api.list_repo_refs(repo, repo_type="dataset", include_pull_requests=True),
        )
        return RepositoryState(
            main=next(ref.target_commit for ref in refs.branches if ref.name == MAIN),
            tags={ref.name: ref.target_commit for ref in refs.tags},
            proposals={int(r.ref.rsplit("/", 1)[-1]): r.target_commit for r in refs.pull_requests or []},
        )

    def list_files(self, repo: str, revision: str) -> dict[str, str]:
        """Return the Git object id of each file of a revision.

        Raises:
            PublishError: If a path leads out of the repository.
        """
        return {entry.path: entry.blob_id for entry in self._list(repo, revision)}

    def _list(self, repo: str, revision: str) -> list[RepoFile]:
        from huggingface_hub.hf_api import RepoFile

        listed = self._call(
            f"listing {repo}",
            lambda: list(
                self._api.list_repo_tree(repo, recursive=True, revision=revision, repo_type="dataset")
            ),
        )
        files = [entry for entry in listed if isinstance(entry, RepoFile)]
        for path in (entry.path for entry in files):
            if "\\" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise PublishError(f"{repo} has a file with the unsafe name {path!r}")
        return files

    def list_commits(self, repo: str, commit: str) -> list[PastCommit]:
        """Return a commit and its ancestors, latest first."""
        commits = self._call(
            f"reading the history of {repo}",
            lambda: self._api.list_repo_commits(repo, repo_type="dataset", revision=commit),
        )
        return [PastCommit(c.commit_id, c.title) for c in commits]

    def read_file(self, repo: str, commit: str, path: str) -> bytes | None:
        """Return the content of a small file without the cache, or `None` if the commit does not have it."""
        with TemporaryDirectory(prefix="counterfoil-") as temporary:
            try:
                place = self._call(
                    f"reading {path} of {repo}",
                    lambda: self._api.hf_hub_download(
                        repo,
                        path,
                        repo_type="dataset",
                        revision=commit,
                        cache_dir=temporary,
                        etag_timeout=min(10.0, TIMEOUT_S),
                    ),
                )
            except NotFoundError:
                return None
            return Path(place).read_bytes()

    def is_open(self, repo: str, number: int) -> bool:
        """Return whether a pull request is open."""
        details = self._call(
            f"looking at pull request {number} of {repo}",
            lambda: self._api.get_discussion_details(repo, number, repo_type="dataset"),
        )
        return details.status in ("open", "draft")

    def commit(
        self,
        repo: str,
        *,
        add: Mapping[str, Path],
        delete: Iterable[str],
        message: str,
        parent: str,
        propose: bool,
        description: str = "",
    ) -> NewCommit:
        """Commit changes to main, or open a pull request.

        Args:
            repo: The dataset.
            add: Local files by path in the repository.
            delete: Paths to delete.
            message: Commit message.
            parent: Expected last commit of main.
            propose: Whether to open a pull request.
            description: Text of the commit or of the pull request, in Markdown.

        Raises:
            ConflictError: If main is not at `parent`.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with ExitStack() as open_files:
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = []
            xet = self._offers_xet(repo, None if propose else MAIN)
            for name, path in sorted(add.items()):
                # The client uploads all files through Xet except open ones, even if the endpoint lacks it.
                content = path if xet else open_files.enter_context(path.open("rb"))
                operations.append(CommitOperationAdd(name, content))
            operations += [CommitOperationDelete(name) for name in sorted(delete)]
            return self._commit(repo, operations, message, parent, propose, description)

    def restore(self, repo: str, *, to: str, parent: str, message: str) -> None:
        """Commit the files of an earlier commit to main.

        Args:
            repo: The dataset.
            to: The earlier commit.
            parent: Expected last commit of main.
            message: Commit message.
        """
        from huggingface_hub import CommitOperationCopy, CommitOperationDelete

        old, current = self.list_files(repo, to), self.list_files(repo, parent)
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            CommitOperationCopy(name, name, src_revision=to)
            for name in sorted(old)
            if current.get(name) != old[name]
        ]
        operations += [CommitOperationDelete(name) for name in sorted(current.keys() - old.keys())]
        self._commit(repo, operations, message, parent, propose=False)

    def _commit(
        self,
        repo: str,
        operations: list[Any],
        message: str,
        parent: str,
        propose: bool,
        description: str = "",
    ) -> NewCommit:
        commit = self._call(
            f"the commit to {repo}",
            lambda: self._api.create_commit(
                repo,
                operations,
                commit_message=message,
                commit_description=description,
                repo_type="dataset",
                parent_commit=parent,
                create_pr=propose,
            ),
        )
        return NewCommit(commit.oid, commit.pr_url or str(commit.commit_url))

    def tag(self, repo: str, tag: str, commit: str, message: str | None = None) -> None:
        """Tag a commit, with a message.

        Raises:
            ConflictError: If the tag exists.
        """
        self._call(
            f"the tag {tag} of {repo}",
            lambda: self._api.create_tag(
                repo, tag=tag, tag_message=message, revision=commit, repo_type="dataset"
            ),
        )

    def download(self, repo: str, commit: str, to: Path) -> None:
        """Download all files of a commit without the cache.

        Raises:
            PublishError: If there are too many files, or a path leads out of the repository.
            MachineError: If the disk is too small for them.
        """
        files = self._list(repo, commit)
        if len(files) > MAX_FILES:
            raise PublishError(f"{repo} has {len(files):,} files; at most {MAX_FILES:,} are downloaded")
        there = next(folder for folder in (to, *to.absolute().parents) if folder.is_dir())
        size, free = sum(max(entry.size or 0, 0) for entry in files), shutil.disk_usage(there).free
        if size > free - SPARE_BYTES:
            raise MachineError(
                f"{repo} has {size >> 20:,} MB, and {free >> 20:,} MB of the disk are free",
                place=str(to.parent),
                hint="free some space, or name a smaller dataset",
            )
        with TemporaryDirectory(prefix="counterfoil-") as temporary:
            self._call(
                f"downloading {repo}",
                lambda: self._api.snapshot_download(
                    repo,
                    repo_type="dataset",
                    revision=commit,
                    local_dir=to,
                    cache_dir=temporary,
                    etag_timeout=min(10.0, TIMEOUT_S),
                ),
            )

    def _offers_xet(self, repo: str, revision: str | None) -> bool:
        """Return whether the endpoint issues tokens for uploads through Xet."""
        from huggingface_hub import get_session
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import hf_raise_for_status
        from huggingface_hub.utils._xet import XetTokenType, xet_connection_info_refresh_url

        url = xet_connection_info_refresh_url(
            token_type=XetTokenType.WRITE,
            repo_id=repo,
            repo_type="dataset",
            revision=revision,
            endpoint=self._api.endpoint,
        )

        def is_offered() -> bool:
            headers = build_hf_headers(token=self._token or False)
            response = get_session().get(url, params={} if revision else {"create_pr": "1"}, headers=headers)
            if response.status_code == 404:
                return False
            hf_raise_for_status(response)
            return True

        return self._call(f"preparing an upload to {repo}", is_offered)

    def _call(self, action: str, call: Callable[[], T]) -> T:
        """Call the client and convert its errors."""
        try:
            return call()
        except Exception as error:
            converted = convert_error(error, action, self._token)
        # Outside of `except`, so that the original error with its token is not the context.
        raise converted from None


def check_repo_name(repo: str) -> None:
    """Raise `InputError` if the text is not a dataset name."""
    if not _NAME.fullmatch(repo):
        raise InputError(f"{repo!r} is not a dataset name", hint="write it like org/everyday-advice")


@cache
def _configure_client() -> None:
    """Set timeouts, and turn off progress bars and logs, which contain signed URLs. Once per process."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory
    from huggingface_hub.utils.tqdm import disable_progress_bars

    def create_client() -> Any:
        client = default_client_factory()
        client.event_hooks = {
            "request": [*client.event_hooks["request"], _set_default_timeouts],
            "response": [reject_long_wait],
        }
        return client

    set_client_factory(create_client)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    disable_progress_bars()


def _set_default_timeouts(request: Any) -> None:
    """Set the timeouts of a request that has none. Some calls of the client ignore those of the session."""
    timeouts = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        part: timeouts.get(part) or TIMEOUT_S for part in ("connect", "read", "write", "pool")
    }
