"""Model names as recipes and the command line write them: `backend:name[@endpoint]`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, Literal, cast, get_args
from urllib.parse import urlsplit

from schemas.errors import InputError

BackendName = Literal["openai", "vllm", "embedded", "replay"]
EMBEDDED_MODELS: tuple[str, ...] = ("smollm2-135m",)
OPENAI_ENDPOINT = "https://api.openai.com/v1"

EXAMPLES = (
    "for example `openai:gpt-5-mini`, `openai:Qwen/Qwen3-32B@http://localhost:8000/v1`, "
    "`vllm:/models/qwen3`, `embedded:smollm2-135m` or `replay:answers.parquet`"
)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A parsed model name."""

    backend: BackendName
    name: str
    endpoint: str | None = None
    """Base URL of an OpenAI-compatible server with its path, or several sorted and comma-separated URLs of
    servers of the same model."""

    def __str__(self) -> str:
        return f"{self.backend}:{self.name}" + (f"@{self.endpoint}" if self.endpoint else "")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Return the endpoints: none for a model without a server, one, or several that share the load."""
        return tuple(self.endpoint.split(",")) if self.endpoint else ()

    def at_each(self) -> tuple[ModelName, ...]:
        """Return the same model at each of its endpoints alone."""
        return tuple(ModelName(self.backend, self.name, endpoint) for endpoint in self.endpoints)

    def resolved(self) -> ModelName:
        """Return the name with the endpoint that is used: its own, `OPENAI_BASE_URL`, or OpenAI's."""
        if self.backend != "openai" or self.endpoint:
            return self
        endpoint = os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_ENDPOINT
        return ModelName(self.backend, self.name, _checked_endpoints(endpoint, "OPENAI_BASE_URL"))


def parse_model_name(text: str) -> ModelName:
    """Parse a model name.

    An endpoint starts at the last `@http://` or `@https://`. Without a path it means `/v1`. Several endpoints
    are separated by commas.

    Raises:
        InputError: If the backend or the embedded model is unknown, or the endpoint is invalid.
    """
    backend, colon, rest = text.partition(":")
    if not colon or backend not in get_args(BackendName):
        raise InputError(f"unknown model backend {backend!r}", place=_masked(text), hint=EXAMPLES)
    # After `#` a recording names one of its models in full.
    names_model = backend == "replay" and "#" in rest
    cut = -1 if names_model else max(rest.rfind("@http://"), rest.rfind("@https://"))
    name, endpoint = (rest, None) if cut < 0 else (rest[:cut], rest[cut + 1 :])
    if not name or name != name.strip():
        raise InputError("the model name is empty", place=_masked(text), hint=EXAMPLES)
    if backend == "openai":
        if endpoint is None and re.search(r"@[^@/]*(:\d+|localhost)", name):
            raise InputError(
                "the endpoint must start with http:// or https://", place=_masked(text), hint=EXAMPLES
            )
        endpoint = endpoint and _checked_endpoints(endpoint, text)
    elif endpoint is not None:
        raise InputError(
            f"a model of the backend `{backend}` has no endpoint", place=_masked(text), hint=EXAMPLES
        )
    if backend == "embedded" and name not in EMBEDDED_MODELS:
        raise InputError(
            f"unknown embedded model {name!r}",
            place=text,
            hint=f"available: {', '.join(EMBEDDED_MODELS)}",
        )
    return ModelName(cast(BackendName, backend), name, endpoint)


def is_loopback(endpoint: str) -> bool:
    """Return whether a URL points at this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        address = ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def origin(endpoint: str) -> str:
    """Return `scheme://host[:port]` of a URL, the form of the keys of `api_keys` in a recipe."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _checked_endpoints(endpoints: str, place: str) -> str:
    """Return the endpoints in sorted order, so that the order in a recipe does not matter."""
    each = {_checked_endpoint(endpoint, place) for endpoint in re.split(r",(?=https?://)", endpoints)}
    return ",".join(sorted(each))


def _checked_endpoint(endpoint: str, place: str) -> str:
    place = _masked(place)
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InputError("the endpoint is not a valid URL", place=place, hint=EXAMPLES) from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", endpoint):
        raise InputError("the endpoint is not a valid http(s) URL", place=place, hint=EXAMPLES)
    if parts.username is not None or parts.password is not None:
        raise InputError(
            "the endpoint contains a user name or password",
            place=place,
            hint="put the key in an environment variable and name it under `api_keys` in the recipe",
        )
    if "," in endpoint:
        raise InputError(
            "the endpoint contains a comma", place=place, hint="start every endpoint with http:// or https://"
        )
    if parts.query or parts.fragment:
        raise InputError(
            "the endpoint has a query or a fragment", place=place, hint="remove everything after the path"
        )
    path = parts.path.rstrip("/")
    if path.endswith("/completions"):
        base = f"{parts.scheme}://{parts.netloc}{path.removesuffix('/completions').removesuffix('/chat')}"
        raise InputError(
            "the endpoint is the address of one route, not of the API", place=place, hint=f"write {base}"
        )
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _masked(text: str) -> str:
    """Remove parts of a URL that may hold a password or a key."""
    return re.sub(r"(https?://)[^/\s]*@", r"\1***@", re.sub(r"[?#].*", "", text))


# Models in local folders

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
BLOCKS, BLOCK = 64, 1 << 16
"""Number and size in bytes of the blocks of a weights file that are hashed."""


def model_folder(model: ModelName) -> Path | None:
    """Return the folder of a local model, or `None` for a name on the Hub.

    Raises:
        InputError: If the name is a path without a folder, or the folder holds no model.
    """
    folder = Path(model.name).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or model.name.startswith((".", "~")) or model.name.count("/") > 1:
            raise InputError(
                "the model folder does not exist", place=str(model), hint="check the path in the recipe"
            )
        return None
    if not (folder / "config.json").is_file():
        raise InputError(
            "the folder contains no model: config.json is missing",
            place=str(model),
            hint="name a folder that `save_pretrained` or the Hub client wrote",
        )
    return folder


def cache_name(model: ModelName, engine: Mapping[str, object]) -> str:
    """Return the name under which the answers of a model are cached.

    For a folder this is a hash of its content. The engine arguments are part of the name, because precision
    and quantisation change answers. Several endpoints serve the same model by definition, so neither their
    addresses nor their number is part of it.
    """
    if len(model.endpoints) > 1:
        return f"{model.backend}:{model.name}@several"
    if model.backend != "vllm":
        return str(model)
    folder = model_folder(model)
    name = f"vllm:{fingerprint_folder(folder)}" if folder else str(model)
    return name + (json.dumps(engine, sort_keys=True) if engine else "")


def fingerprint_folder(folder: Path) -> str:
    """Return `sha256:…` over everything that determines the answers of a local model.

    Configuration, tokenizer and chat template are hashed in full. Of each file of weights the size and blocks
    at equal distances are hashed: training changes every part of a tensor.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        if path.suffix in WEIGHTS or path.suffix in (".json", ".jinja", ".model", ".txt"):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                for part in _parts(file, path.stat().st_size, whole=path.suffix not in WEIGHTS):
                    digest.update(part)
    return f"sha256:{digest.hexdigest()[:32]}"


def _parts(file: BinaryIO, size: int, whole: bool) -> Iterator[bytes]:
    if whole or size <= BLOCKS * BLOCK:
        yield file.read()
        return
    for i in range(BLOCKS):
        file.seek(i * (size - BLOCK) // (BLOCKS - 1))
        yield file.read(BLOCK)
