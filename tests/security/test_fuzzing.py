"""Random input of every kind that arrives from outside is read, or refused with an error that names it.

`make test` tries a few hundred inputs, the slow tests thousands. The inputs are the same in every run, unless
`COUNTERFOIL_FUZZ=random` is set. Damaged releases are in `test_verify_mutations`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from schemas.errors import CounterfoilError, InputError
from schemas.recipe import Limits, Recipe
from tasks.files.retrieval import FORMATS
from tasks.files.yaml import load_yaml, parse_yaml
from tasks.models import open_model, run_async
from tasks.models.embeddings import read_vectors
from tasks.models.rerank import read_scores
from tasks.models.structured import ask_structured
from tasks.relabel.file import relabel_file
from tasks.release import parse_manifest
from tests.security.guards import guarded
from tests.servers.openai_server import Fault, OpenAIServer, raw
from tests.tasks.models.asking import question, settings_for

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def fuzz(inputs: Any, runs: int, *, long: bool) -> Callable[[Any], Any]:
    """Decorate a test with a number of inputs. Long ones are slow tests."""
    options = settings(
        max_examples=runs,
        deadline=None,
        derandomize=os.environ.get("COUNTERFOIL_FUZZ") != "random",
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Any) -> Any:
        fuzzed = (
            options(given(data=inputs)(test))
            if isinstance(inputs, type(st.data()))
            else options(given(inputs)(test))
        )
        return pytest.mark.slow(fuzzed) if long else fuzzed

    return decorate


# Recipes, YAML and manifests.

KEYS = st.sampled_from([*Recipe.model_fields, "validate", "x"])
RECIPES = st.dictionaries(KEYS, JSON, max_size=8)
YAML_TEXT = st.text(alphabet="abc:-[]{}&*<!'\"#|>?,\n 019.~%@", max_size=80)
MANIFESTS = st.binary(max_size=200) | JSON.map(lambda value: repr(value).encode("utf-8", "replace"))


def read_recipe(content: dict[str, Any]) -> None:
    with guarded() as guard, contextlib.suppress(CounterfoilError):
        parse_yaml(yaml.safe_dump(content), Recipe, place="recipe.yaml")
    assert (guard.connections, guard.writes) == ([], [])


def read_yaml_text(text: str) -> None:
    with contextlib.suppress(InputError):
        load_yaml(text, place="x")


def read_manifest_bytes(content: bytes) -> None:
    with contextlib.suppress(InputError):
        parse_manifest(content, "manifest.json")


# Retrieval files.

NAMES = (
    "query pos neg id positive negative positive_passages negative_passages text docid title query_id anchor "
    "pos_scores neg_scores positives hard_negatives x"
)
FIELDS = st.sampled_from(NAMES.split())
PASSAGE = st.text(max_size=12) | st.dictionaries(FIELDS, st.text(max_size=8) | JSON, max_size=3)
VALUE = st.text(max_size=20) | st.lists(PASSAGE, max_size=4) | JSON
ROW = st.fixed_dictionaries(
    {}, optional={"query": st.text(max_size=12), "pos": VALUE, "neg": VALUE}
) | st.dictionaries(FIELDS, VALUE, max_size=6)
LINES = st.lists(ROW.map(lambda row: json.dumps(row).encode()) | st.binary(max_size=40), max_size=6)
SUFFIXES = st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".zst", ".arrow", ""])
RETRIEVAL_FILES = st.tuples(
    LINES.map(b"\n".join), SUFFIXES, st.sampled_from([*FORMATS, "auto"]), st.booleans()
)


ROOT = Path(tempfile.mkdtemp(prefix="counterfoil-fuzz-"))
"""The only folder that may be written to. Its content is removed by the tests."""
atexit.register(shutil.rmtree, ROOT, ignore_errors=True)


@contextlib.contextmanager
def own_temporary_folder(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def read_retrieval_file(file: tuple[bytes, str, str, bool]) -> None:
    content, suffix, format, skip_bad = file
    with tempfile.TemporaryDirectory(dir=ROOT) as name:
        folder = Path(name)
        path = folder / f"in{suffix}"
        path.write_bytes(content)
        with guarded(ROOT) as guard, own_temporary_folder(folder), contextlib.suppress(CounterfoilError):
            relabel_file(
                path,
                settings=settings_for(folder),
                format=format,
                skip_bad=skip_bad,
                out=folder / "out.jsonl",
            )
        assert guard.connections == []
        assert path.read_bytes() == content


# Answers of model servers.


class Verdict(BaseModel):
    """An answer that a judge must give."""

    why: str
    score: int = Field(ge=1, le=5)


CONTENT = st.one_of(
    JSON,
    st.text(max_size=60),
    JSON.map(json.dumps),
    st.sampled_from(
        [
            "[" * 20_000,
            '{"why": "x", "score": ' + "9" * 5_000 + "}",
            '{"why": "x", "score": 1e999}',
            "\x1b[2J" * 50,
            '{"why": "\\ud800", "score": 3}',
        ]
    ),
)
MESSAGE = st.fixed_dictionaries(
    {"content": CONTENT},
    optional={
        "role": JSON,
        "refusal": JSON,
        "reasoning_content": JSON,
        "tool_calls": JSON,
        "annotations": JSON,
    },
)
CHOICE = st.fixed_dictionaries(
    {"message": MESSAGE | JSON},
    optional={
        "index": JSON,
        "finish_reason": st.sampled_from(["stop", "length", "x"]) | JSON,
        "logprobs": JSON,
    },
)
BODY = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2) | JSON},
    optional={"id": JSON, "object": JSON, "model": JSON, "usage": JSON, "error": JSON, "created": JSON},
)
STATUS = st.sampled_from([200, 200, 200, 200, 201, 204, 301, 400, 401, 404, 413, 422, 429, 500, 503])
HEADER_TEXT = st.text(alphabet="0123456789 -./:;=abcGMT", max_size=24)
WAITS = st.sampled_from(
    ["0", "0.01", "-1", "x", "1e99", "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT", "nan", ""]
)
HEADERS = st.fixed_dictionaries(
    {}, optional={"retry_after": WAITS, "content_type": HEADER_TEXT, "location": HEADER_TEXT}
)
SERVER_ANSWERS = st.tuples(
    (BODY | JSON).map(json.dumps) | st.binary(max_size=80), STATUS, HEADERS, st.booleans()
)
IMPATIENT = Limits(max_in_flight=1, attempts=1, timeout_s=5, outage_s=0, patience_s=0.01)


LONG_SERVER_RUNS = int(os.environ.get("COUNTERFOIL_FUZZ_ANSWERS", "500"))
"""Answers in the slow test. Each needs a connection and a cache of its own."""


class FuzzedServer:
    """A server with an answer that is set from outside."""

    def __init__(self) -> None:
        self.answer: Fault | None = None
        self.count = 0
        self.server = OpenAIServer("", faults=lambda number, body: self.answer)


@pytest.fixture(scope="module")
def fuzzed_server() -> Iterator[FuzzedServer]:
    fuzzed = FuzzedServer()
    with fuzzed.server:
        yield fuzzed


def read_server_answer(fuzzed_server: FuzzedServer, answer: tuple[Any, int, dict[str, str], bool]) -> None:
    body, status, headers, structured = answer
    fuzzed_server.answer = raw(body, status, **headers)
    fuzzed_server.count += 1
    server = fuzzed_server.server
    model_name = server.model(f"model-{fuzzed_server.count}")  # limits and waits are kept per model
    port = int(server.url.split(":")[2].split("/")[0])
    with tempfile.TemporaryDirectory() as name:
        chosen = settings_for(Path(name), model_name, limits=IMPATIENT)

        async def ask() -> list[Any]:
            async with open_model(model_name, chosen) as model:
                if structured:
                    return [found async for found in ask_structured(model, [question(1)], Verdict)]
                return [found async for found in model.complete([question(1)])]

        hosts = frozenset({("127.0.0.1", port)})
        with guarded(Path(name), hosts=hosts) as guard, contextlib.suppress(CounterfoilError):
            (outcome,) = run_async(ask())
            assert str(outcome)
        assert set(guard.connections) <= hosts


# Answers of servers of scores and embeddings.

NUMBER: Any = st.integers() | st.floats() | st.sampled_from([10**400, True, "1"])
SCORED = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(-1, 3) | JSON,
        "score": NUMBER | JSON,
        "relevance_score": NUMBER,
        "embedding": st.lists(NUMBER, max_size=3) | JSON,
    },
)
SCORE_ANSWERS = (
    st.fixed_dictionaries({"data": st.lists(SCORED | JSON, max_size=4) | JSON})
    | st.fixed_dictionaries({"results": st.lists(SCORED, max_size=4)})
    | JSON
)


def read_score_answer(answer: Any) -> None:
    for place, score in read_scores(answer, 2).items():
        assert 0 <= place < 2
        assert math.isfinite(score)
    vectors = read_vectors(answer, 2)
    assert vectors is None or (len(vectors) == 2 and bool(np.isfinite(vectors).all()))


for _name, _test, _inputs, _quick, _long in (
    ("recipe", read_recipe, RECIPES, 60, 3_000),
    ("yaml", read_yaml_text, YAML_TEXT, 60, 5_000),
    ("manifest", read_manifest_bytes, MANIFESTS, 60, 5_000),
    ("retrieval_file", read_retrieval_file, RETRIEVAL_FILES, 25, 1_500),
    ("score_answer", read_score_answer, SCORE_ANSWERS, 100, 8_000),
):
    globals()[f"test_{_name}_is_read_or_refused"] = fuzz(_inputs, _quick, long=False)(_test)
    globals()[f"test_{_name}_is_read_or_refused_for_long"] = fuzz(_inputs, _long, long=True)(_test)


@fuzz(st.data(), 10, long=False)
def test_server_answer_is_read_or_refused(fuzzed_server: FuzzedServer, data: Any) -> None:
    read_server_answer(fuzzed_server, data.draw(SERVER_ANSWERS))


@fuzz(st.data(), LONG_SERVER_RUNS, long=True)
def test_server_answer_is_read_or_refused_for_long(fuzzed_server: FuzzedServer, data: Any) -> None:
    read_server_answer(fuzzed_server, data.draw(SERVER_ANSWERS))
