"""Model names: `backend:name[@endpoint]`, as recipes and the command line write them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import BudgetError, InputError
from schemas.recipe import Limits, Models, Validate
from tasks.files.yaml import read_yaml
from tasks.run.store import RunContext

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


_QUANTISED = re.compile(
    r"[-_.](?:awq|gptq|gguf|ggml|mlx|exl2|bnb|fp(?:4|8|16)|bf16|nf4|int(?:4|8)|w\d+a\d+|i?q\d\w*|[468]-?bit)\b.*$"
)


class ModelFamilies(BaseModel):
    """data/model_families.yaml"""

    model_config = ConfigDict(frozen=True, extra="forbid")
    families: dict[str, tuple[str, ...]]
    """Words that names of a family's models hold, lower case."""


def read_model_families(data_dir: Path) -> ModelFamilies:
    return read_yaml(data_dir / "model_families.yaml", ModelFamilies)


def model_family(name: str, known: ModelFamilies) -> frozenset[str]:
    """The families that a model belongs to, by its name in a recipe: mostly one; several for a model of one
    family that was trained on another's answers (`DeepSeek-R1-Distill-Qwen-32B`). A model of no known family
    is its own: the name without organisation, tag and quantisation."""
    bare = _bare(name)
    by_word = {word: family for family, words in known.families.items() for word in words}
    listed = "|".join(re.escape(word) for word in sorted(by_word, key=lambda word: (-len(word), word)))
    found = re.findall(rf"(?<![a-z0-9])(?:{listed})(?![a-z])", bare)
    own = _QUANTISED.sub("", bare.partition(":")[0])
    return frozenset(by_word[word] for word in found) or frozenset({own})


def _bare(name: str) -> str:
    """`openai:Qwen/Qwen3-32B@http://…` is `qwen3-32b`; a recording is the model it names after `#`."""
    model = parse_model_name(name)
    if model.backend == "replay" and "#" in model.name:
        return _bare(model.name.partition("#")[2])
    return model.name.rstrip("/").rsplit("/", 1)[-1].lower()


def refuse_shared_families(models: Models, data_dir: Path) -> None:
    """Raise `InputError` where two of generator, targets and judges are related and the recipe does not allow
    it (`models.may_share_family`). Rules such as `recombine` and `divergence` are of no family."""
    if models.may_share_family:
        return
    known = read_model_families(data_dir)
    for place, one, does, other in _pairs(models):
        shared = sorted(model_family(one, known) & model_family(other, known))
        if shared:
            raise InputError(
                f"{one} {does} {other}, and both are of the family {shared[0]!r}: models favour their own",
                place=place,
                hint="choose another model for one of them, or set `models.may_share_family: true`",
            )


def _pairs(models: Models) -> Iterator[tuple[str, str, str, str]]:
    """(place, model, what it does to, other model), rules left out."""
    targets = dict.fromkeys((*models.targets, *models.holdout_targets))
    judges = [(f"models.{place}", name) for place, names in _judges(models) for name in names if ":" in name]
    for place, judge in judges:
        yield from ((place, judge, "judges the answers of", target) for target in targets)
    if ":" in models.generator:
        for place, judge in judges:
            yield place, judge, "judges questions written by", models.generator
        for target in targets:
            yield "models.generator", models.generator, "writes the questions for", target


def _judges(models: Models) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "judges", models.judges
    if models.adjudicator:
        yield "adjudicator", (models.adjudicator,)


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


class TokenPrice(BaseModel):
    """USD per million tokens of one model, where that is said, and when it was read there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    """Prompt tokens read from the provider's own cache; default: as `input`."""
    source: str
    as_of: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")

    def times(self, factor: float) -> TokenPrice:
        """The same at a share of the price."""
        cached = None if self.cached is None else self.cached * factor
        changes = {"input": self.input * factor, "output": self.output * factor, "cached": cached}
        return self.model_copy(update=changes)

    def cost_usd(self, tokens_in: int, tokens_out: int, tokens_in_cached: int = 0) -> float:
        cached = min(tokens_in_cached, tokens_in)
        cached_price = self.input if self.cached is None else self.cached
        usd = (tokens_in - cached) * self.input + cached * cached_price + tokens_out * self.output
        return usd / 1_000_000


class PriceList(BaseModel):
    """data/prices.yaml"""

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch: float = Field(default=1.0, ge=0, le=1)
    """What a call costs through the Batch API, as a share of its price."""
    models: dict[str, TokenPrice]


FREE = TokenPrice(input=0, output=0, source="free", as_of="1970-01-01")


def price_of(
    name: ModelName, *, configured: str, free: Collection[str], prices_path: Path, batch: Collection[str] = ()
) -> TokenPrice:
    """The price of a model. `configured` is its name as the recipe has it, which `free` may list, and
    `batch` where it is asked through the Batch API.

    Models in this process and replayed ones are free. A dated snapshot (`gpt-5-mini-2025-08-07`) costs
    what its undated name does. Raises `BudgetError` where there is no price.
    """
    if name.backend in ("embedded", "replay", "vllm") or configured in free:
        return FREE
    listed = read_yaml(prices_path, PriceList)
    models = listed.models
    undated = re.sub(r"-\d{4}-\d{2}-\d{2}$", "", name.name)
    price = models.get(name.name) or models.get(undated)
    if price is None:
        raise BudgetError(
            f"the price of {configured} is not known, so its cost cannot be kept within the budget",
            place=prices_path.name,
            hint=f"add `{name.name}` to {prices_path.name}; or list {configured!r} under `budget.free` in "
            "the recipe if it costs nothing; or choose another model",
        )
    return price.times(listed.batch) if configured in batch else price


# What models need to know beside their names: places, money, limits, and where the keys are.


@dataclass(frozen=True)
class ModelSettings:
    """What a model needs to know beside its name. Holds names of keys, never keys."""

    data_dir: Path
    """Holds `prices.yaml` and `prompts/`."""
    run_dir: Path
    """Where the run's spending is recorded."""
    cache_path: Path
    budget_usd: float = 0.0
    free: frozenset[str] = frozenset()
    api_keys: Mapping[str, str] = field(default_factory=dict)
    """Environment variable by endpoint (`http://host:port`)."""
    limits: Callable[[str], Limits] = lambda name: Limits()
    engine: Mapping[str, Any] = field(default_factory=dict)
    """vLLM's own engine arguments, for models of `vllm:`."""
    batch: frozenset[str] = frozenset()
    """Models that are asked through the Batch API."""
    max_failure_rate: float = Validate().max_failure_rate
    """Share of the calls for structured answers that may fail."""
    prices_path: Path | None = None
    """Default: `prices.yaml` in `data_dir`."""

    @classmethod
    def of(cls, context: RunContext) -> ModelSettings:
        recipe = context.recipe
        return cls(
            data_dir=Path(context.data_dir),
            run_dir=Path(context.run_dir),
            cache_path=Path(context.cache_path),
            budget_usd=context.budget_usd,
            free=frozenset(recipe.budget.free),
            api_keys=recipe.api_keys,
            limits=recipe.limits_of,
            engine=recipe.models.engine,
            batch=frozenset(recipe.models.batch),
            max_failure_rate=recipe.validation.max_failure_rate,
        )

    def price(self, name: str) -> TokenPrice:
        """What the model costs; raises `BudgetError` where that is not known."""
        prices = self.prices_path or self.data_dir / "prices.yaml"
        return price_of(
            parse_model_name(name), configured=name, free=self.free, prices_path=prices, batch=self.batch
        )


def api_key_variable(model: ModelName, settings: ModelSettings) -> str | None:
    """The environment variable that holds the key for a resolved model, if one is configured."""
    if model.endpoint is None:
        return None
    place = origin(model.endpoint)
    named = {origin(endpoint): variable for endpoint, variable in settings.api_keys.items()}
    if place in named:
        return named[place]
    own = {origin(OPENAI_ENDPOINT), origin(os.environ.get("OPENAI_BASE_URL", "") or OPENAI_ENDPOINT)}
    return "OPENAI_API_KEY" if place in own or is_loopback(model.endpoint) else None


def api_key(model: ModelName, settings: ModelSettings) -> str | None:
    """The key for a resolved model. Raises `InputError` where one is needed and not set."""
    variable = api_key_variable(model, settings)
    value = os.environ.get(variable, "").strip() if variable else ""
    assert model.endpoint is not None
    place = origin(model.endpoint)
    needed = place == origin(OPENAI_ENDPOINT) or place in map(origin, settings.api_keys)
    if needed and not value:
        raise InputError(
            f"the environment variable {variable} is not set",
            place=str(model),
            hint=f"it holds the key for {place}: `export {variable}=…`",
        )
    return value or None
