"""A small Hub on loopback, for tests: a real HTTP server in a thread, with repositories in a folder.

    with HubServer(tmp_path) as hub:                        # tokens: hf_maker may write, hf_reader may read
        ...  HF_ENDPOINT=hub.url, HF_TOKEN=hub.token
        hub.files("org/name", "v1.0.0")                     # path to bytes, at any revision
        hub.requests[0].route                               # requests, in order of arrival

It stores datasets like the Hub: commits that name their parent, trees of blobs with git ids, large files by
sha256 in a storage on another port, tags that never move, and pull requests at refs/pr/N.

**Faults.** `faults=` maps the number of a request (from 0, or from `hub.start_faults`) to a fault. A function
`(received) -> Fault | None` can decide for each request.

    HubServer(tmp_path, faults={7: DROP})         close the connection before anything is done
    LOST                                          do it, then close the connection before the answer
    HANG                                          never answer
    wait(event)                                   do it after the event is set
    status(429, retry_after="0")                  refuse
    corrupt()                                     store the content of this request with one bit flipped
    STALE                                         send the requested content with one bit flipped
    KILL, KILL_AFTER                              kill `hub.client` (a process id) before or after
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import yaml
from aiohttp import web

FaultKind = Literal["drop", "lost", "hang", "wait", "status", "corrupt", "stale", "kill", "kill_after"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LARGE = (".parquet",)
"""Endings of files that go to the storage."""
ATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"
WHEN = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Fault:
    """A fault of one request."""

    kind: FaultKind
    code: int = 500
    retry_after: str | None = None
    as_json: bool = True
    event: threading.Event | None = None
    only: str | None = None


def corrupt(only: str | None = None) -> Fault:
    """Store the content of this request with one bit flipped (of a commit, `only` that file)."""
    return Fault("corrupt", only=only)


def wait(event: threading.Event) -> Fault:
    """Do it after the event is set."""
    return Fault("wait", event=event)


def status(code: int, *, retry_after: str | None = None, as_json: bool = True) -> Fault:
    """Return an error status. With `as_json=False` the body is a web page, as a proxy sends it."""
    return Fault("status", code, retry_after, as_json)


DROP = Fault("drop")
LOST = Fault("lost")
HANG = Fault("hang")
STALE = Fault("stale")
KILL = Fault("kill")
KILL_AFTER = Fault("kill_after")

CORRUPTS = web.RequestKey("corrupts", Fault)
SPOILS = web.RequestKey("spoils", bool)


@dataclass(frozen=True)
class Received:
    """A request as it arrived. `route` is its kind, such as `commit` or `resolve`."""

    number: int
    method: str
    route: str
    path: str
    headers: Mapping[str, str]


Faults = Mapping[int, Fault] | Callable[[Received], Fault | None]


@dataclass(frozen=True)
class Blob:
    """A file of a tree: the git id of its content, and for large files the pointer to the storage."""

    oid: str
    size: int
    lfs: str | None = None


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    tree: Mapping[str, Blob]


@dataclass
class Proposal:
    """A pull request."""

    head: str
    title: str
    status: str = "open"
    description: str = ""


@dataclass
class Repo:
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    main: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    """Messages of the tags."""
    proposals: dict[int, Proposal] = field(default_factory=dict)

    def commit(self, parent: str | None, title: str, tree: Mapping[str, Blob]) -> str:
        lines = [f"{blob.oid} {path}" for path, blob in sorted(tree.items())]
        told = "\n".join([f"parent {parent}", title, str(len(self.commits)), *lines])
        oid = hashlib.sha1(told.encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, dict(tree))
        return oid

    def find(self, revision: str) -> Commit | None:
        number = revision.removeprefix("refs/pr/")
        if revision.startswith("refs/pr/") and number.isdigit() and int(number) in self.proposals:
            return self.commits[self.proposals[int(number)].head]
        return self.commits.get(self.main if revision == "main" else self.tags.get(revision, revision))


class HubServer:
    """A Hub for tests. The module describes it."""

    token = "hf_maker"

    def __init__(
        self,
        folder: Path,
        *,
        faults: Faults | None = None,
        tokens: Mapping[str, Literal["read", "write"]] | None = None,
        checks_uploads: bool = True,
        echoes_token: bool = False,
        offers_xet: bool = False,
        like: HubServer | None = None,
    ) -> None:
        """Start with no repositories, or with those of the Hub `like`."""
        self.folder = folder / "hub"
        self.faults: Faults = faults or {}
        self.tokens = {"hf_maker": "write", "hf_reader": "read"} if tokens is None else dict(tokens)
        self.checks_uploads = checks_uploads
        """Whether the storage refuses content with another hash than announced."""
        self.echoes_token = echoes_token
        """Whether errors repeat the request's own token."""
        self.offers_xet = offers_xet
        """Whether it issues tokens for Xet. Its storage is only an address."""
        self.repos: dict[str, Repo] = copy.deepcopy(like.repos) if like else {}
        self.requests: list[Received] = []
        self.start_faults = 0
        self.client: int | None = None
        self.port = self.storage_port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="hub-server", daemon=True)
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        if like:
            shutil.copytree(like.folder, self.folder)
        for place in ("blobs", "storage"):
            (self.folder / place).mkdir(parents=True, exist_ok=True)

    # What tests look at and do by hand.

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a process that uses this Hub."""
        return {"HF_ENDPOINT": self.url, "HF_TOKEN": self.token, "HF_HUB_OFFLINE": "0"}

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Return the content of the repository at a revision, or nothing if the revision does not exist."""
        commit = self.repos[repo].find(revision) if repo in self.repos else None
        tree = commit.tree if commit else {}
        return {path: self._place(blob).read_bytes() for path, blob in tree.items()}

    def history(self, repo: str) -> list[str]:
        """Return the titles of the commits on main, oldest first."""
        titles: list[str] = []
        commit = self.repos[repo].find("main")
        while commit is not None:
            titles.insert(0, commit.title)
            commit = self.repos[repo].commits.get(commit.parent) if commit.parent else None
        return titles

    def edit(self, repo: str, path: str, content: bytes) -> str:
        """Change a file on main, as a person would."""
        held = self.repos[repo]
        tree = {**held.commits[held.main].tree, path: self._keep(content)}
        held.main = held.commit(held.main, f"Update {path}", tree)
        return held.main

    def merge(self, repo: str, number: int) -> str:
        """Merge a pull request, as a person would."""
        held = self.repos[repo]
        proposal = held.proposals[number]
        held.main = held.commit(held.main, proposal.title, held.commits[proposal.head].tree)
        proposal.status = "merged"
        return held.main

    def create(self, repo: str, *, private: bool = False) -> Repo:
        """Create an empty dataset, like the Hub."""
        held = self.repos[repo] = Repo(private)
        held.main = held.commit(None, "initial commit", {".gitattributes": self._keep(ATTRIBUTES)})
        return held

    # The server.

    def __enter__(self) -> HubServer:
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("the test server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        hub, storage = web.Application(client_max_size=1 << 30), web.Application(client_max_size=1 << 30)
        api, repo = "/api/datasets/{space}/{name}", "/datasets/{space}/{name}"
        self._route(hub, "POST", "/api/repos/create", "create", self._create)
        self._route(hub, "POST", "/api/validate-yaml", "validate-yaml", self._validate_yaml)
        self._route(hub, "GET", "/api/whoami-v2", "whoami", self._whoami)
        self._route(hub, "GET", api, "info", self._info)
        self._route(hub, "GET", api + "/revision/{revision}", "info", self._info)
        self._route(hub, "GET", api + "/refs", "refs", self._refs)
        self._route(hub, "GET", api + "/commits/{revision}", "commits", self._commits)
        self._route(hub, "GET", api + "/tree/{revision}", "tree", self._tree)
        self._route(hub, "GET", api + "/tree/{revision}/{path:.*}", "tree", self._tree)
        self._route(hub, "POST", api + "/paths-info/{revision}", "paths-info", self._paths_info)
        self._route(hub, "POST", api + "/preupload/{revision}", "preupload", self._preupload)
        self._route(hub, "POST", api + "/commit/{revision}", "commit", self._commit)
        self._route(hub, "GET", api + "/xet-write-token/{revision}", "xet-token", self._xet_token)
        self._route(hub, "POST", api + "/tag/{revision}", "tag", self._tag)
        self._route(hub, "GET", api + "/discussions/{number}", "discussion", self._discussion)
        self._route(hub, "POST", repo + ".git/info/lfs/objects/batch", "lfs-batch", self._lfs_batch)
        self._route(hub, "POST", repo + ".git/info/lfs/objects/verify", "lfs-verify", self._lfs_verify)
        self._route(hub, "GET", repo + "/resolve/{revision}/{path:.+}", "resolve", self._resolve)
        self._route(storage, "PUT", "/{oid}", "upload", self._upload)
        self._route(storage, "GET", "/{oid}", "download", self._download)
        self._route(hub, "*", "/{rest:.*}", "unknown", self._unknown)
        runners = [await _listen(app) for app in (hub, storage)]
        self.port, self.storage_port = (runner.addresses[0][1] for runner in runners)
        self._ready.set()
        await self._stop.wait()
        for runner in runners:
            await runner.cleanup()

    def _route(self, app: web.Application, method: str, path: str, route: str, handler: Handler) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            number = len(self.requests)
            received = Received(number, request.method, route, request.path_qs, dict(request.headers))
            self.requests.append(received)
            return await self._answer(request, handler, self._fault_of(received))

        app.router.add_route(method, path, handle)
        if method == "GET":
            app.router.add_route("HEAD", path, handle)

    def _fault_of(self, received: Received) -> Fault | None:
        if callable(self.faults):
            return self.faults(received)
        return self.faults.get(received.number - self.start_faults)

    async def _answer(
        self, request: web.Request, handler: Handler, fault: Fault | None
    ) -> web.StreamResponse:
        kind = fault.kind if fault else None
        if fault is not None and kind == "status":
            return _refused(fault)
        if kind == "kill":
            self._kill()
        if kind in ("drop", "kill"):
            return _closed(request)
        if kind == "hang":
            await asyncio.sleep(3600)
        if fault is not None and fault.event is not None:
            await asyncio.to_thread(fault.event.wait, 30)
        if fault is not None and kind == "corrupt":
            request[CORRUPTS] = fault
        request[SPOILS] = kind == "stale"
        try:
            answer = await handler(request)
        except web.HTTPException as refused:
            answer = refused
        if kind == "kill_after":
            self._kill()
        return _closed(request) if kind in ("lost", "kill_after") else answer

    def _kill(self) -> None:
        assert self.client is not None, "no client to kill"
        os.kill(self.client, signal.SIGKILL)

    # What is kept.

    def _keep(self, content: bytes) -> Blob:
        """Return a regular file with its git id."""
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        (self.folder / "blobs" / oid).write_bytes(content)
        return Blob(oid, len(content))

    def _keep_pointer(self, oid: str) -> Blob:
        """Return a large file in the storage. Git stores a pointer."""
        size = (self.folder / "storage" / oid).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
        return Blob(self._keep(pointer.encode()).oid, size, oid)

    def _place(self, blob: Blob) -> Path:
        return self.folder / ("storage" if blob.lfs else "blobs") / (blob.lfs or blob.oid)

    def _is_whole(self, oid: str) -> bool:
        place = self.folder / "storage" / oid
        return place.exists() and hashlib.sha256(place.read_bytes()).hexdigest() == oid

    # Who may do what.

    def _repo(self, request: web.Request, *, write: bool = False) -> Repo:
        """Return the repository that a request names. Raise the refusals of the Hub."""
        level = self._level(request)
        name = _name_of(request)
        held = self.repos.get(name)
        if held is None or (held.private and level is None):
            raise self._refusal(request, 404 if level else 401, "Repository not found", "RepoNotFound")
        if write and level != "write":
            raise self._refusal(request, 403 if level else 401, "you may not write here")
        return held

    def _level(self, request: web.Request) -> str | None:
        """Return `read`, `write`, or nothing without a token."""
        given = request.headers.get("Authorization")
        if given is None:
            return None
        if given.removeprefix("Bearer ") not in self.tokens:
            raise self._refusal(request, 401, "Invalid credentials in Authorization header")
        return self.tokens[given.removeprefix("Bearer ")]

    def _refusal(
        self, request: web.Request, code: int, message: str, error: str | None = None
    ) -> web.HTTPException:
        if self.echoes_token:
            message += f" (you sent {request.headers.get('Authorization')})"
        headers = {"X-Error-Message": message} | ({"X-Error-Code": error} if error else {})
        return _raised(code, json.dumps({"error": message}), headers)

    def _revision(self, request: web.Request, held: Repo) -> Commit:
        commit = held.find(request.match_info.get("revision", "main"))
        if commit is None:
            raise self._refusal(request, 404, "Invalid rev id", "RevisionNotFound")
        return commit

    # The routes.

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        raise self._refusal(request, 404, "there is no such route")

    async def _whoami(self, request: web.Request) -> web.StreamResponse:
        level = self._level(request)
        if level is None:
            raise self._refusal(request, 401, "Invalid username or password.")
        return web.json_response({"type": "user", "name": "maker", "auth": {"accessToken": {"role": level}}})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        level = self._level(request)
        if level != "write":
            raise self._refusal(request, 403 if level else 401, "you may not create repositories here")
        name = f"{asked['organization']}/{asked['name']}"
        url = f"{self.url}/datasets/{name}"
        if name in self.repos:
            told = {"error": f"You already created this dataset repo: {name}", "url": url}
            return web.json_response(told, status=409)
        self.create(name, private=asked.get("visibility") == "private")
        return web.json_response({"url": url, "name": name})

    async def _validate_yaml(self, request: web.Request) -> web.StreamResponse:
        """Check that the card's front matter is YAML with valid licence, tags and configs."""
        content = json.loads(await request.read())["content"]
        errors = [{"message": error} for error in card_errors(content)]
        return web.json_response({"errors": errors, "warnings": []}, status=400 if errors else 200)

    async def _info(self, request: web.Request) -> web.StreamResponse:
        held = self._repo(request)
        commit = self._revision(request, held)
        name = _name_of(request)
        told = {"_id": "0", "id": name, "author": name.split("/")[0], "sha": commit.oid}
        siblings = [{"rfilename": path} for path in sorted(commit.tree)]
        state = {"private": held.private, "gated": False, "disabled": False, "tags": [], "downloads": 0}
        return web.json_response(
            told | state | {"siblings": siblings, "lastModified": WHEN, "createdAt": WHEN}
        )

    async def _refs(self, request: web.Request) -> web.StreamResponse:
        held = self._repo(request)
        told: dict[str, Any] = {
            "branches": [_ref("refs/heads/", "main", held.main)],
            "converts": [],
            "tags": [_ref("refs/tags/", tag, oid) for tag, oid in sorted(held.tags.items())],
        }
        if "include_prs" in request.query:
            heads = [_ref("refs/pr/", str(n), p.head) for n, p in sorted(held.proposals.items())]
            told["pullRequests"] = heads
        return web.json_response(told)

    async def _commits(self, request: web.Request) -> web.StreamResponse:
        held = self._repo(request)
        told, commit = [], held.find(self._revision(request, held).oid)
        while commit is not None:
            told.append({"id": commit.oid, "title": commit.title, "message": "", "authors": [], "date": WHEN})
            commit = held.commits.get(commit.parent) if commit.parent else None
        return web.json_response(told)

    async def _tree(self, request: web.Request) -> web.StreamResponse:
        commit = self._revision(request, self._repo(request))
        inside = request.match_info.get("path", "").strip("/")
        deep = request.query.get("recursive", "").lower() in ("1", "true")
        expand = request.query.get("expand", "").lower() in ("1", "true")
        prefix = f"{inside}/" if inside else ""
        below = [path for path in sorted(commit.tree) if path.startswith(prefix)]
        if inside and not below:
            raise self._refusal(request, 404, f"{inside} does not exist", "EntryNotFound")
        entries = [_entry(path, commit, expand) for path in below if deep or "/" not in path[len(prefix) :]]
        folders = {parent for path in below for parent in _folders(path) if parent.startswith(prefix)}
        shown = [f for f in sorted(folders) if deep or "/" not in f[len(prefix) :]]
        return web.json_response([_folder(f, commit, expand) for f in shown] + entries)

    async def _paths_info(self, request: web.Request) -> web.StreamResponse:
        commit = self._revision(request, self._repo(request))
        if request.content_type == "application/json":
            asked = json.loads(await request.read())
            paths, expand = asked["paths"], asked.get("expand", False)
        else:
            form = await request.post()
            paths, expand = form.getall("paths", []), str(form.get("expand", "")).lower() == "true"
        folders = {parent for path in commit.tree for parent in _folders(path)}
        found = [_entry(p, commit, expand) for p in paths if p in commit.tree]
        return web.json_response(found + [_folder(p, commit, expand) for p in paths if p in folders])

    async def _preupload(self, request: web.Request) -> web.StreamResponse:
        commit = self._revision(request, self._repo(request, write=True))
        told = []
        for file in json.loads(await request.read())["files"]:
            held = commit.tree.get(file["path"])
            mode = "lfs" if file["path"].endswith(LARGE) else "regular"
            oid = {"oid": held.lfs or held.oid} if held else {}
            told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
        return web.json_response({"files": told, "commitOid": commit.oid})

    async def _lfs_batch(self, request: web.Request) -> web.StreamResponse:
        self._repo(request, write=True)
        objects = []
        for asked in json.loads(await request.read())["objects"]:
            upload = {"href": f"http://127.0.0.1:{self.storage_port}/{asked['oid']}?signature=presigned"}
            verify = {"href": f"{self.url}/datasets/{_name_of(request)}.git/info/lfs/objects/verify"}
            missing = (
                {} if self._is_whole(asked["oid"]) else {"actions": {"upload": upload, "verify": verify}}
            )
            objects.append({"oid": asked["oid"], "size": asked["size"], **missing})
        return web.json_response({"transfer": "basic", "objects": objects})

    async def _xet_token(self, request: web.Request) -> web.StreamResponse:
        self._repo(request, write=True)
        if not self.offers_xet:
            raise self._refusal(request, 404, "there is no Xet here")
        return web.json_response({"casUrl": f"{self.url}/cas", "accessToken": "xet", "exp": 4102444800})

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        place = self.folder / "storage" / request.match_info["oid"]
        place.write_bytes(_turned(content) if CORRUPTS in request else content)
        return web.Response()

    async def _lfs_verify(self, request: web.Request) -> web.StreamResponse:
        self._repo(request, write=True)
        asked = json.loads(await request.read())
        if self.checks_uploads and not self._is_whole(asked["oid"]):
            raise self._refusal(request, 422, "the object does not have this hash")
        return web.json_response({})

    async def _commit(self, request: web.Request) -> web.StreamResponse:
        held = self._repo(request, write=True)
        lines = [json.loads(line) for line in (await request.read()).splitlines() if line.strip()]
        header = lines[0]["value"]
        proposed = "create_pr" in request.query
        parent = header.get("parentCommit", held.main)
        if parent != held.main and not proposed:
            raise self._refusal(request, 412, "A commit has happened since. Please refresh and try again.")
        tree = self._changed_tree(request, dict(held.commits[parent].tree), lines[1:])
        oid = held.commit(parent, header["summary"], tree)
        told = {"success": True, "commitOid": oid, "hookOutput": ""}
        told["commitUrl"] = f"{self.url}/datasets/{_name_of(request)}/commit/{oid}"
        if proposed:
            number = len(held.proposals) + 1
            held.proposals[number] = Proposal(
                oid, header["summary"], description=header.get("description", "")
            )
            told["pullRequestUrl"] = f"{self.url}/datasets/{_name_of(request)}/discussions/{number}"
        else:
            held.main = oid
        return web.json_response(told)

    def _changed_tree(
        self, request: web.Request, tree: dict[str, Blob], lines: list[dict[str, Any]]
    ) -> dict[str, Blob]:
        for line in lines:
            value, path = line["value"], line["value"]["path"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                fault = request.get(CORRUPTS)
                spoilt = fault is not None and fault.only in (None, path)
                tree[path] = self._keep(_turned(content) if spoilt else content)
            elif line["key"] == "lfsFile":
                if not (self.folder / "storage" / value["oid"]).exists():
                    raise self._refusal(request, 400, f"the storage does not have {path}")
                tree[path] = self._keep_pointer(value["oid"])
            elif line["key"] == "deletedFile" and path in tree:
                del tree[path]
            else:
                raise self._refusal(request, 404, "A file with this name doesn't exist", "EntryNotFound")
        return tree

    async def _tag(self, request: web.Request) -> web.StreamResponse:
        held = self._repo(request, write=True)
        commit = self._revision(request, held)
        content = json.loads(await request.read())
        tag = content["tag"]
        if tag in held.tags:
            raise self._refusal(request, 409, "Tag reference exists already")
        held.tags[tag] = commit.oid
        held.messages[tag] = content.get("message", "")
        return web.json_response({})

    async def _discussion(self, request: web.Request) -> web.StreamResponse:
        held = self._repo(request)
        number = int(request.match_info["number"])
        if number not in held.proposals:
            raise self._refusal(request, 404, "there is no such discussion")
        proposal = held.proposals[number]
        told = {"num": number, "title": proposal.title, "status": proposal.status, "isPullRequest": True}
        place = {
            "repo": {"name": _name_of(request), "type": "dataset"},
            "changes": {"base": "refs/heads/main"},
        }
        rest = {"author": {"name": "maker"}, "createdAt": WHEN, "events": [], "filesWithConflicts": []}
        return web.json_response(told | place | rest)

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        commit = self._revision(request, self._repo(request))
        blob = commit.tree.get(request.match_info["path"])
        if blob is None:
            raise self._refusal(request, 404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.oid}"'}
        if blob.lfs is None:
            content = self._place(blob).read_bytes()
            return web.Response(body=_turned(content) if request[SPOILS] else content, headers=headers)
        headers |= {"X-Linked-Etag": f'"{blob.lfs}"', "X-Linked-Size": str(blob.size)}
        headers["Location"] = f"http://127.0.0.1:{self.storage_port}/{blob.lfs}?signature=presigned"
        return web.Response(status=302, headers=headers)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        place = self.folder / "storage" / request.match_info["oid"]
        if request[SPOILS]:
            return web.Response(body=_turned(place.read_bytes()))
        return web.FileResponse(place)


def card_errors(content: str) -> list[str]:
    """Describe the fault of a card's front matter."""
    parts = content.split("---\n")
    if len(parts) < 3 or parts[0]:
        return ["no front matter"]
    try:
        matter = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        return [f"not YAML: {error}"]
    kinds = {"license": str, "tags": list, "language": list, "configs": list, "dataset_info": list}
    return [
        f'"{key}" must be a {kind.__name__}'
        for key, kind in kinds.items()
        if key in matter and not isinstance(matter[key], kind)
    ]


async def _listen(app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


def _name_of(request: web.Request) -> str:
    return f"{request.match_info['space']}/{request.match_info['name']}"


def _ref(prefix: str, name: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": prefix + name, "targetCommit": oid}


def _folders(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _entry(path: str, commit: Commit, expand: bool) -> dict[str, Any]:
    blob = commit.tree[path]
    told: dict[str, Any] = {"type": "file", "path": path, "oid": blob.oid, "size": blob.size}
    if blob.lfs:
        told["lfs"] = {"oid": blob.lfs, "size": blob.size, "pointerSize": 130}
    return told | (_last_commit(commit) if expand else {})


def _folder(path: str, commit: Commit, expand: bool) -> dict[str, Any]:
    oid = hashlib.sha1(path.encode()).hexdigest()
    told = {"type": "directory", "path": path, "oid": oid, "size": 0}
    return told | (_last_commit(commit) if expand else {})


def _last_commit(commit: Commit) -> dict[str, Any]:
    return {"lastCommit": {"id": commit.oid, "title": commit.title, "date": WHEN}}


def _turned(content: bytes) -> bytes:
    """Return the content with its last bit flipped."""
    return content[:-1] + bytes([content[-1] ^ 1]) if content else content


def _closed(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _refused(fault: Fault) -> web.StreamResponse:
    headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
    if not fault.as_json:
        return web.Response(
            status=fault.code, text="<html>oh no</html>", content_type="text/html", headers=headers
        )
    return web.json_response({"error": "something went wrong"}, status=fault.code, headers=headers)


def _raised(code: int, body: str, headers: Mapping[str, str]) -> web.HTTPException:
    kinds = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        409: web.HTTPConflict,
        412: web.HTTPPreconditionFailed,
        422: web.HTTPUnprocessableEntity,
    }
    return kinds[code](text=body, content_type="application/json", headers=headers)
