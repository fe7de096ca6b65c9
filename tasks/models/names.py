"""Model names: `backend:name[@endpoint]`, as recipes and the command line write them."""

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
    """A parsed name. `endpoint` is the base URL of an OpenAI-compatible server, path included; or several of
    them in their alphabet's order, with commas between, that serve the same model."""

    backend: BackendName
    name: str
    endpoint: str | None = None

    def __str__(self) -> str:
        return f"{self.backend}:{self.name}" + (f"@{self.endpoint}" if self.endpoint else "")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where calls go: none for a model without a server, one, or several that share the load."""
        return tuple(self.endpoint.split(",")) if self.endpoint else ()

    def at_each(self) -> tuple[ModelName, ...]:
        """The same model at each of its endpoints alone."""
        return tuple(ModelName(self.backend, self.name, endpoint) for endpoint in self.endpoints)

    def resolved(self) -> ModelName:
        """With the endpoint that calls go to: its own, `OPENAI_BASE_URL`, or OpenAI's."""
        if self.backend != "openai" or self.endpoint:
            return self
        endpoint = os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_ENDPOINT
        return ModelName(self.backend, self.name, _checked_endpoints(endpoint, "OPENAI_BASE_URL"))


def parse_model_name(text: str) -> ModelName:
    """Read a model's name. An endpoint starts at the last `@http://` or `@https://`; without a path it
    means `/v1`; several stand with commas between them. Raises `InputError` for an unknown backend, an
    unknown embedded model, a bad endpoint."""
    backend, colon, rest = text.partition(":")
    if not colon or backend not in get_args(BackendName):
        raise InputError(f"there is no model backend {backend!r}", place=_masked(text), hint=EXAMPLES)
    # a recording says behind `#` whose answers are meant, by that model's whole name
    whole = backend == "replay" and "#" in rest
    cut = -1 if whole else max(rest.rfind("@http://"), rest.rfind("@https://"))
    name, endpoint = (rest, None) if cut < 0 else (rest[:cut], rest[cut + 1 :])
    if not name or name != name.strip():
        raise InputError("the model has no name", place=_masked(text), hint=EXAMPLES)
    if backend == "openai":
        if endpoint is None and re.search(r"@[^@/]*(:\d+|localhost)", name):
            raise InputError(
                "the endpoint does not begin with http:// or https://", place=_masked(text), hint=EXAMPLES
            )
        endpoint = endpoint and _checked_endpoints(endpoint, text)
    elif endpoint is not None:
        raise InputError(f"a model of `{backend}:` has no endpoint", place=_masked(text), hint=EXAMPLES)
    if backend == "embedded" and name not in EMBEDDED_MODELS:
        raise InputError(
            f"there is no embedded model {name!r}",
            place=text,
            hint=f"there is: {', '.join(EMBEDDED_MODELS)}",
        )
    return ModelName(cast(BackendName, backend), name, endpoint)


def is_loopback(endpoint: str) -> bool:
    """Whether a URL points at this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def origin(endpoint: str) -> str:
    """`scheme://host[:port]` of a URL, as `api_keys` in a recipe names endpoints."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _checked_endpoints(endpoints: str, place: str) -> str:
    """One order for one set, so that a list is the same model however it is written."""
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
            "the endpoint holds a user name or password",
            place=place,
            hint="put the key in an environment variable and name it under `api_keys` in the recipe",
        )
    if "," in endpoint:
        raise InputError(
            "the endpoint holds a comma", place=place, hint="each of several begins with http:// or https://"
        )
    if parts.query or parts.fragment:
        raise InputError("the endpoint has a query or a fragment", place=place, hint="end it at its path")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _masked(text: str) -> str:
    """Without what may be a password or a key in a URL."""
    return re.sub(r"(https?://)[^/\s]*@", r"\1***@", re.sub(r"[?#].*", "", text))


# Which models are related. Judges favour answers that their own kind wrote (arXiv 2404.13076), so whoever
# writes questions, answers them and judges the answers should be of different families.


# Models in a folder of this machine: where they are, and what they are, whatever the folder is called.


WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
BLOCKS, BLOCK = 64, 1 << 16
"""How much of a file of weights is read to tell it from others: so many blocks of so many bytes."""


def model_folder(model: ModelName) -> Path | None:
    """The folder that a model's name means; `None` for a name on the Hub. Raises `InputError` where there is
    no such folder, or no model in it."""
    folder = Path(model.name).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or model.name.startswith((".", "~")) or model.name.count("/") > 1:
            raise InputError(
                "there is no such model folder", place=str(model), hint="check the path in the recipe"
            )
        return None
    if not (folder / "config.json").is_file():
        raise InputError(
            "the folder holds no model: there is no config.json in it",
            place=str(model),
            hint="give the folder that `save_pretrained` or the Hub's client wrote",
        )
    return folder


def cache_name(model: ModelName, engine: Mapping[str, object]) -> str:
    """The name that a model's answers are kept under: its own, or for a folder what is in it. How the engine
    is set up belongs to it, because precision and quantisation change answers. Several endpoints are said to
    serve the same model: which they are, and how many, does not count."""
    if len(model.endpoints) > 1:
        return f"{model.backend}:{model.name}@several"
    if model.backend != "vllm":
        return str(model)
    folder = model_folder(model)
    name = f"vllm:{fingerprint_folder(folder)}" if folder else str(model)
    return name + (json.dumps(engine, sort_keys=True) if engine else "")


def fingerprint_folder(folder: Path) -> str:
    """`sha256:…` of what decides a model's answers: configuration, tokenizer and chat template in full; of
    each file of weights its size and blocks at equal distances (training changes all of a tensor)."""
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


# What a call costs: data/prices.yaml, in USD per million tokens.


# What models need to know beside their names: places, money, limits, and where the keys are.
