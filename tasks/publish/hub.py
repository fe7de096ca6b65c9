"""What the Hub's refusals and failures mean: try again, give up, or tell a person what to mend."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.errors import CounterfoilError, InputError, PublishError
from tasks.run.retries import Backoff, Retries, RetryPolicy, parse_retry_after
from tasks.text.redaction import redact_secrets

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete


T = TypeVar("T")

RETRY_POLICY = RetryPolicy(attempts=5, backoff=Backoff(first_s=1.0, longest_s=60.0), longest_wait_s=120.0)

PASSING = frozenset({408, 429, 500, 502, 503, 504})
CONFLICTS = frozenset({409, 412})
_SPENT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")


class PassingError(Exception):
    """A failure that may be gone in a moment."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        """What the Hub asked to wait."""


class NotThereError(InputError):
    """The Hub has no such dataset, revision or file, or does not show it to this token."""


class OvertakenError(PublishError):
    """Someone else was faster."""


def with_retries(action: Callable[[], T]) -> T:
    """Call `action` until it succeeds. Retry after every `PassingError`.

    Args:
        action: Safe to repeat: it looks at the state of the Hub before it changes anything.

    Raises:
        PublishError: If the attempts are used up, or the Hub asks for a longer wait than the policy allows.
    """
    retries = Retries(RETRY_POLICY)
    while True:
        try:
            return action()
        except PassingError as fault:
            message, requested_s = str(fault), fault.wait_s
        wait_s = retries.next_wait_s(requested_s)
        if wait_s is None:
            break
        time.sleep(wait_s)
    if RETRY_POLICY.is_too_long(requested_s):
        message += f" (it asks to wait {requested_s:.0f} s)"
    raise PublishError(message, hint="run the same command again: it goes on where this one stopped")


def hub_error_of(error: Exception, what: str, secret: str | None) -> Exception:
    """The error to raise instead. `secret` and what stands behind the `?` of addresses is left out."""
    if isinstance(error, CounterfoilError):
        return error
    causes = list(_causes(error))
    passing = next((cause for cause in causes if isinstance(cause, PassingError)), None)
    if passing is not None:
        return PassingError(f"{what}: {passing}", passing.wait_s)
    if any(type(cause).__name__ == "OfflineModeIsEnabled" for cause in causes):
        return InputError(f"{what}: HF_HUB_OFFLINE is set", hint="unset it, or set it to 0")
    answered = next((c for c in causes if getattr(c, "response", None) is not None), None)
    if answered is not None:
        return _refusal(answered, what, secret)
    if any(_is_passing(cause) for cause in causes):
        return PassingError(f"{what}: the Hub cannot be reached, or does not answer")
    if isinstance(error, (ValueError, RuntimeError)):
        return PublishError(f"{what}: {_clean(str(error), secret)}", hint="nothing was changed on the Hub")
    return error


def _refusal(error: BaseException, what: str, secret: str | None) -> Exception:
    response: Any = getattr(error, "response")  # noqa: B009
    status = int(response.status_code)
    said = _clean(str(getattr(error, "server_message", None) or "no reason given"), secret)
    told = f"{what}: the Hub answered {status}: {said}"
    if status in PASSING:
        headers = response.headers
        return PassingError(told, _wait_s(headers.get("Retry-After"), headers.get("RateLimit")))
    if status in CONFLICTS:
        return OvertakenError(told, hint="run the same command again: it says what is there now")
    if status == 404:
        return NotThereError(told, hint="check the name; a private dataset needs a token that may read it")
    if status in (401, 403):
        return InputError(told, hint="set HF_TOKEN to a token that may do this (`hf auth login` keeps one)")
    return PublishError(told, hint="nothing was changed by this request")


def refuse_long_wait(response: Any) -> None:
    """Raise `PassingError` where a Hub that is busy asks for a wait that nobody sits through: its client
    would."""
    wait_s = _wait_s(response.headers.get("Retry-After"), response.headers.get("RateLimit"))
    if response.status_code in PASSING and RETRY_POLICY.is_too_long(wait_s):
        raise PassingError(f"the Hub answered {response.status_code}", wait_s)


def _wait_s(retry_after: str | None, rate_limit: str | None = None) -> float | None:
    """Return the requested wait in seconds: `Retry-After: 30`, or `RateLimit: "api";r=0;t=30`."""
    spent = _SPENT.search(rate_limit or "")
    return float(spent[1]) if spent else parse_retry_after(retry_after, time.time())


def _is_passing(error: BaseException) -> bool:
    """Connections that fail, answers that are no JSON, downloads that end too early. Failures of this
    machine's own files carry an `errno` and are not."""
    if any(kind.__name__ == "TransportError" for kind in type(error).__mro__):
        return True
    if isinstance(error, (ConnectionError, TimeoutError, json.JSONDecodeError)):
        return True
    return isinstance(error, OSError) and error.errno is None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        yield found
        seen.append(found)
        found = found.__cause__ or found.__context__


def _clean(text: str, secret: str | None) -> str:
    return redact_secrets(_QUERY.sub(r"\1", " ".join(text.split())), secret)


# The Hub: the only door to huggingface_hub. Datasets only; every call says what it does in its errors.
#
# Uploads go through Xet where the endpoint offers it, else by git-LFS.


_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
MAIN = "main"
TIMEOUT_S = 120.0
"""For one answer of the Hub; without one, its client waits for ever."""


@dataclass(frozen=True)
class RepositoryState:
    """What a dataset shows: commits by their ids."""

    main: str
    tags: Mapping[str, str]
    proposals: Mapping[int, str]
    """Heads of pull requests, open or not."""


@dataclass(frozen=True)
class HubCommit:
    """A commit of the past."""

    oid: str
    title: str


@dataclass(frozen=True)
class Committed:
    """A commit that was made, and where a person can look at it: it, or its pull request."""

    oid: str
    url: str


class Hub:
    """One endpoint (`HF_ENDPOINT`), seen with one token (`HF_TOKEN`, or the one of `hf auth login`)."""

    def __init__(self, token: str | None = None, endpoint: str | None = None) -> None:
        from huggingface_hub import HfApi, get_token

        _settle_client()
        self._token = token or get_token()
        self._api = HfApi(
            endpoint=(endpoint or os.environ.get("HF_ENDPOINT") or None),
            token=self._token or False,
            library_name="counterfoil",
        )

    @property
    def has_token(self) -> bool:
        return self._token is not None

    def page(self, repo: str) -> str:
        """The dataset's page."""
        return f"{self._api.endpoint}/datasets/{repo}"

    def create(self, repo: str, *, private: bool) -> None:
        """Create the dataset if it is not there."""
        self._ask(
            f"creating {repo}",
            lambda: self._api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True),
        )

    def is_private(self, repo: str) -> bool:
        info = self._ask(f"looking at {repo}", lambda: self._api.dataset_info(repo))
        return bool(info.private)

    def look(self, repo: str) -> RepositoryState:
        """Where the dataset's branch, tags and pull requests are. Raises `NotThereError`."""
        refs = self._ask(
            f"looking at {repo}",
            lambda: self._api.list_repo_refs(repo, repo_type="dataset", include_pull_requests=True),
        )
        return RepositoryState(
            main=next(ref.target_commit for ref in refs.branches if ref.name == MAIN),
            tags={ref.name: ref.target_commit for ref in refs.tags},
            proposals={int(r.ref.rsplit("/", 1)[-1]): r.target_commit for r in refs.pull_requests or []},
        )

    def files(self, repo: str, revision: str) -> dict[str, str]:
        """Path to git's id, for every file of a revision. Refuses paths that lead out of a folder."""
        from huggingface_hub.hf_api import RepoFile

        listed = self._ask(
            f"listing {repo}",
            lambda: list(
                self._api.list_repo_tree(repo, recursive=True, revision=revision, repo_type="dataset")
            ),
        )
        files = {entry.path: entry.blob_id for entry in listed if isinstance(entry, RepoFile)}
        for path in files:
            if "\\" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise PublishError(f"{repo} holds a file with the unsafe name {path!r}")
        return files

    def history(self, repo: str, commit: str) -> list[HubCommit]:
        """A commit and those before it, the last first."""
        commits = self._ask(
            f"reading the history of {repo}",
            lambda: self._api.list_repo_commits(repo, repo_type="dataset", revision=commit),
        )
        return [HubCommit(c.commit_id, c.title) for c in commits]

    def read(self, repo: str, commit: str, path: str) -> bytes | None:
        """A small file's content, fresh from the Hub; `None` where the commit has no such file."""
        with TemporaryDirectory(prefix="counterfoil-") as room:
            try:
                place = self._ask(
                    f"reading {path} of {repo}",
                    lambda: self._api.hf_hub_download(
                        repo,
                        path,
                        repo_type="dataset",
                        revision=commit,
                        cache_dir=room,
                        etag_timeout=min(10.0, TIMEOUT_S),
                    ),
                )
            except NotThereError:
                return None
            return Path(place).read_bytes()

    def is_open(self, repo: str, number: int) -> bool:
        """Whether a pull request still waits for someone to merge it."""
        found = self._ask(
            f"looking at pull request {number} of {repo}",
            lambda: self._api.get_discussion_details(repo, number, repo_type="dataset"),
        )
        return found.status in ("open", "draft")

    def commit(
        self,
        repo: str,
        *,
        add: Mapping[str, Path],
        delete: Iterable[str],
        message: str,
        parent: str,
        propose: bool,
    ) -> Committed:
        """One commit on main, or a pull request. Raises `OvertakenError` where main is not at `parent`."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with ExitStack() as open_files:
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = []
            xet = self._offers_xet(repo, None if propose else MAIN)
            for name, path in sorted(add.items()):
                # The client takes every file through Xet, offered or not, except those that are open.
                content = path if xet else open_files.enter_context(path.open("rb"))
                operations.append(CommitOperationAdd(name, content))
            operations += [CommitOperationDelete(name) for name in sorted(delete)]
            return self._commit(repo, operations, message, parent, propose)

    def restore(self, repo: str, *, to: str, parent: str, message: str) -> None:
        """One commit that makes main, which is at `parent`, show again what it showed at the commit `to`."""
        from huggingface_hub import CommitOperationCopy, CommitOperationDelete

        then, now = self.files(repo, to), self.files(repo, parent)
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            CommitOperationCopy(name, name, src_revision=to)
            for name in sorted(then)
            if now.get(name) != then[name]
        ]
        operations += [CommitOperationDelete(name) for name in sorted(now.keys() - then.keys())]
        self._commit(repo, operations, message, parent, propose=False)

    def _commit(
        self, repo: str, operations: list[Any], message: str, parent: str, propose: bool
    ) -> Committed:
        made = self._ask(
            f"the commit to {repo}",
            lambda: self._api.create_commit(
                repo,
                operations,
                commit_message=message,
                repo_type="dataset",
                parent_commit=parent,
                create_pr=propose,
            ),
        )
        return Committed(made.oid, made.pr_url or str(made.commit_url))

    def tag(self, repo: str, tag: str, commit: str) -> None:
        """Tag a commit. Raises `OvertakenError` where the tag is there already: a tag never moves."""
        self._ask(
            f"the tag {tag} of {repo}",
            lambda: self._api.create_tag(repo, tag=tag, revision=commit, repo_type="dataset"),
        )

    def download(self, repo: str, commit: str, to: Path) -> None:
        """All files of a commit, fresh from the Hub: nothing is taken from a cache."""
        self.files(repo, commit)
        with TemporaryDirectory(prefix="counterfoil-") as room:
            self._ask(
                f"downloading {repo}",
                lambda: self._api.snapshot_download(
                    repo,
                    repo_type="dataset",
                    revision=commit,
                    local_dir=to,
                    cache_dir=room,
                    etag_timeout=min(10.0, TIMEOUT_S),
                ),
            )

    def _offers_xet(self, repo: str, revision: str | None) -> bool:
        """Whether this endpoint hands out what an upload through Xet starts with."""
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

        def offered() -> bool:
            headers = build_hf_headers(token=self._token or False)
            answer = get_session().get(url, params={} if revision else {"create_pr": "1"}, headers=headers)
            if answer.status_code == 404:
                return False
            hf_raise_for_status(answer)
            return True

        return self._ask(f"preparing an upload to {repo}", offered)

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        """Raises the errors of `hub_errors`, `InputError` or `PublishError`; none has the token in it."""
        try:
            return call()
        except Exception as error:
            told = hub_error_of(error, what, self._token)
        raise told from None


def check_name(repo: str) -> None:
    """Raise `InputError` where that is no name of a dataset."""
    if not _NAME.fullmatch(repo):
        raise InputError(f"{repo!r} is no name of a dataset", hint="names are like org/everyday-advice")


@cache
def _settle_client() -> None:
    """Once a process: answers are waited for in bounds; no bars, and no addresses with signatures in logs."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory
    from huggingface_hub.utils.tqdm import disable_progress_bars

    def bounded() -> Any:
        client = default_client_factory()
        client.event_hooks = {
            "request": [*client.event_hooks["request"], _bound_waiting],
            "response": [refuse_long_wait],
        }
        return client

    set_client_factory(bounded)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    disable_progress_bars()


def _bound_waiting(request: Any) -> None:
    """Some calls of the client ask for no bound at all, whatever the session's is."""
    asked = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        part: asked.get(part) or TIMEOUT_S for part in ("connect", "read", "write", "pool")
    }
