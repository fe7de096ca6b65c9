"""Releases that a stranger might offer, made from a good one, and a web page."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from schemas.tables import content_hash, file_hash

Json = dict[str, Any]


def copy_release(release: Path, folder: Path) -> Path:
    """Return a copy of a release that may be changed, `folder/<name>/<version>`."""
    return Path(shutil.copytree(release, folder / release.parent.name / release.name))


def change_manifest(release: Path, change: Callable[[Json], Any]) -> Path:
    """Change the manifest of a release. The hashes of the recipe and of the files fit again afterwards."""
    place = release / "manifest.json"
    manifest = json.loads(place.read_bytes())
    change(manifest)
    if isinstance(manifest.get("recipe"), dict):
        manifest["recipe_hash"] = content_hash(manifest["recipe"])
    if isinstance(manifest.get("files"), dict):
        for name in manifest["files"]:
            if os.path.isfile(release / name):  # never an error, also for names that no disk can have
                manifest["files"][name] = file_hash(release / name)
    place.write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    (release / "manifest.sha256").write_text(f"{file_hash(place)}  manifest.json\n")
    return release


def aim_at(release: Path, address: str, variable: str) -> Path:
    """Let a release name the stranger's server everywhere, and ask for a variable of the environment."""

    def change(manifest: Json) -> None:
        recipe = manifest["recipe"]
        stranger = f"openai:stranger@{address}/v1"
        recipe["models"] |= {
            "targets": [stranger],
            "judges": [stranger],
            "adjudicator": stranger,
            "generator": stranger,
            "relabel_judges": [stranger],
            "batch": [stranger],
            "engine": {"trust_remote_code": True},
        }
        recipe["api_keys"] = {address: variable}
        recipe["budget"] = {"usd": 1e6, "free": [stranger]}
        recipe["limits"] = {"max_in_flight": 4096, "attempts": 50}
        recipe["model_limits"] = {stranger: {"max_in_flight": 4096}}
        recipe["relabel"] = recipe.get("relabel", {}) | {"files": [{"path": "/etc/passwd", "format": "auto"}]}
        recipe["deduplicate"] = recipe.get("deduplicate", {}) | {
            "against": ["/etc/passwd"],
            "semantic": {"model": f"openai:stranger@{address}/v1", "threshold": 95.0},
        }
        for family in recipe["families"].values():
            family["files"] = [{"path": "/etc/passwd", "format": "auto"}]

    return change_manifest(release, change)


class _Page(BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, content: bytes, **other: Any) -> None:
        self.content = content
        super().__init__(*arguments, **other)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def page_server(content: bytes) -> Iterator[int]:
    """Serve one page at every path of a port, which is yielded."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Page, content=content))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
