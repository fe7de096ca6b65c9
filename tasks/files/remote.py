"""Files in object storage: inputs are copied to this machine, and results are uploaded.

Addresses are those of fsspec (`s3://bucket/key`). Credentials are read by its libraries from their usual
places, and are never stored.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import InputError, MachineError
from schemas.places import EXTRAS, explain_remote
from schemas.release import is_safe_path
from schemas.tables import content_hash
from tasks.run.store import rename_directory

CREDENTIALS = re.compile(r"(key|token|secret|signature|password)[\w-]*\s*[=:]\s*\S+", re.IGNORECASE)
CREDENTIAL_PLACES = {
    "s3": "AWS_ACCESS_KEY_ID or ~/.aws; AWS_ENDPOINT_URL names another server",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login`",
    "azure": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Usual places of the credentials, by optional dependency."""
MAX_FILES = 10_000
"""Largest number of files in a folder that is copied."""


def fetch_address(address: str, cache: Path) -> Path:
    """Copy a file or folder of object storage to this machine, once per version, and return its path.

    Args:
        address: An address such as `s3://bucket/data.jsonl`.
        cache: Folder of all copies.

    Raises:
        InputError: If the library of the storage is missing, or the place cannot be read.
        MachineError: If the copy cannot be written.
    """
    with _explained(address, "read"):
        files, root = open_storage(address)
        root = root.rstrip("/")
        versions = _list_versions(files, root, address)
        key = content_hash([address.rstrip("/"), sorted(versions.items())])[:24]
        home = cache / key
        name = root.rpartition("/")[2] or "data"
        if home.is_dir():
            return home / name
        temporary = cache / f".{key}.{secrets.token_hex(4)}"
        try:
            for inside in versions:
                target = temporary / name / inside if inside else temporary / name
                target.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(f"{root}/{inside}" if inside else root, str(target))
            home.parent.mkdir(parents=True, exist_ok=True)
            if not home.is_dir():
                rename_directory(temporary, home)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return home / name


def _list_versions(files: Any, root: str, address: str) -> dict[str, str]:
    """Return the version of each file of a place by its path inside. A single file has an empty path."""
    if files.isfile(root):
        return {"": str(files.ukey(root))}
    found = sorted(files.find(root)) if files.exists(root) else []
    if not found:
        raise FileNotFoundError(address)
    if len(found) > MAX_FILES:
        raise InputError(
            f"{address} has {len(found):,} files; at most {MAX_FILES:,} are copied",
            hint="name a single file, or a smaller folder",
        )
    start = files._strip_protocol(root).rstrip("/") + "/"
    inside = [str(path).removeprefix(start) for path in found]
    if unsafe := [name for name in inside if not is_safe_path(name)]:
        raise InputError(f"{address} contains a file with an unsafe name: {unsafe[0][:80]!r}")
    return {name: str(files.ukey(path)) for name, path in zip(inside, found, strict=True)}


@dataclass(frozen=True)
class RemoteFolder:
    """The folder of object storage in which a result is written."""

    address: str
    """Address of the folder, without a slash at the end."""

    def check_writable(self) -> None:
        """Write and delete a small file, so that a result is never lost for lack of permission.

        Raises:
            InputError: If the storage refuses it.
        """
        with _explained(self.address, "written"):
            files, root = open_storage(self.address)
            probe = f"{root.rstrip('/')}/.counterfoil-{secrets.token_hex(4)}"
            files.pipe_file(probe, b"counterfoil\n")
            files.rm_file(probe)

    def version(self, name: str) -> str | None:
        """Return the version of a file, or None if it does not exist."""
        with _explained(self.address, "read"):
            files, root = open_storage(self.address)
            path = f"{root.rstrip('/')}/{name}"
            files.invalidate_cache()
            return str(files.ukey(path)) if files.exists(path) else None

    def download(self, name: str, target: Path) -> None:
        """Copy a file to this machine, if it exists."""
        with _explained(self.address, "read"):
            files, root = open_storage(self.address)
            path = f"{root.rstrip('/')}/{name}"
            if files.exists(path):
                target.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(path, str(target))

    def upload(self, results: Mapping[str, Path]) -> None:
        """Upload files by name, in order: each is complete or absent."""
        with _explained(self.address, "written"):
            files, root = open_storage(self.address)
            for name, path in results.items():
                files.put_file(str(path), f"{root.rstrip('/')}/{name}")


def open_storage(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the path in it.

    Raises:
        InputError: If the kind of storage is unknown, or its library is not installed.
    """
    if reason := explain_remote(address, supported=True):
        raise InputError(reason)
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    scheme = address.partition(":")[0]
    try:
        files, path = url_to_fs(address, use_listings_cache=False)
    except ImportError:
        extra = EXTRAS.get(scheme, scheme)
        raise InputError(
            f"{scheme}:// needs the extra [{extra}]",
            place=address,
            hint=f"uv pip install --python .venv/bin/python -e '.[{extra}]'",
        ) from None
    return files, str(path)


@contextmanager
def _explained(address: str, done: str) -> Iterator[None]:
    """Turn the errors of a storage library into `InputError`. They never contain a credential."""
    try:
        yield
    except (InputError, MachineError):
        raise
    except FileNotFoundError:
        hint = "check the address; a folder must contain at least one file"
        raise InputError(f"there is nothing at {address}", hint=hint) from None
    except Exception as error:
        words = CREDENTIALS.sub(r"\1=***", " ".join(str(error).split()))[:300]
        usual = CREDENTIAL_PLACES.get(EXTRAS.get(address.partition(":")[0], ""), "")
        raise InputError(
            f"{address} cannot be {done}: {type(error).__name__}: {words}".removesuffix(": "),
            hint="check the address and your permissions"
            + (f"; credentials are read from {usual}" if usual else ""),
        ) from None
