"""Keys and passwords are planted everywhere and repeated by servers, and no output contains them.

`COUNTERFOIL_FUZZ_SEEDS=50` tries more seeds.
"""

from __future__ import annotations

import base64
import html
import json
import os
import random
import sqlite3
import string
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
import yaml
from sqlalchemy import select

from schemas.errors import InputError
from tasks.models.cache_database import CACHE_URL, answers, cache_url, open_engine
from tasks.models.protocol import Failure
from tests.conftest import PROJECT
from tests.flows.test_build import scripted, write_recipe
from tests.servers.echoing_server import EchoingServer
from tests.servers.hub_server import HubServer
from tests.servers.hub_server import status as hub_status
from tests.servers.postgres_server import PostgresServer, missing_postgres
from tests.tasks.models.asking import answers as ask
from tests.tasks.models.asking import questions, settings_for

SEEDS = range(int(os.environ.get("COUNTERFOIL_FUZZ_SEEDS", "1")))
PIECE = 12
ALPHABETS = (
    string.ascii_letters + string.digits + "_-",
    string.ascii_letters + string.digits + "+/=",
    string.ascii_letters + string.digits + "&<>'\"%:#?",
)

COMMANDS = """
import json, os, sys, time
from flows.cli import main
for number, (arguments, changes) in enumerate(json.load(sys.stdin)):
    os.environ.update(changes)
    sys.argv = ["counterfoil", *arguments]
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    print(f"\\ncode {number}: {code}", time.process_time(), flush=True)
"""


@dataclass(frozen=True)
class Planted:
    """One secret for each place."""

    openai: str
    own: str
    hub: str
    database: str
    address: str

    @classmethod
    def of(cls, seed: int) -> Planted:
        chance = random.Random(seed)
        made = [
            "".join(chance.choices(chance.choice(ALPHABETS), k=chance.randrange(24, 60))) for _ in range(5)
        ]
        return cls(f"sk-{made[0]}", made[1], f"hf_{made[2]}", made[3], made[4])

    def all(self) -> tuple[str, ...]:
        return (self.openai, self.own, self.hub, self.database, self.address)


def found_in(content: bytes, secrets: tuple[str, ...]) -> list[str]:
    """Return the secrets that a content contains, in any encoding."""
    seen = []
    for secret in secrets:
        pieces = {secret[i : i + PIECE] for i in range(0, len(secret) - PIECE + 1, 4)}
        encoded = base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
        forms = {quote(secret, safe=""), html.escape(secret), json.dumps(secret)[1:-1], encoded}
        seen += [form for form in pieces | forms if form.encode() in content]
    return seen


def leaks(place: Path, secrets: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the secrets by file, also in the rows of Parquet and SQLite."""
    content = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    content = {path: raw + contents_of(path, raw) for path, raw in content.items()}
    found = {str(path.relative_to(place)): found_in(raw, secrets) for path, raw in content.items()}
    return {path: seen for path, seen in found.items() if seen}


def contents_of(path: Path, raw: bytes) -> bytes:
    if path.suffix == ".parquet":
        return repr(pq.read_table(path).to_pydict()).encode()
    if raw.startswith(b"SQLite"):
        with closing(sqlite3.connect(path)) as database:
            return "\n".join(database.iterdump()).encode()
    return b""


@pytest.fixture(params=SEEDS)
def planted(request: pytest.FixtureRequest) -> Planted:
    return Planted.of(request.param)


@pytest.fixture
def postgres(planted: Planted) -> Iterator[PostgresServer | None]:
    if missing_postgres():
        yield None
        return
    with PostgresServer(planted.database) as server:
        yield server


def run(home: Path, planted: Planted, commands: list[tuple[list[str], dict[str, str]]], **more: str) -> str:
    """Run commands in one process, one after the other. Return all their output."""
    own = {n: v for n, v in os.environ.items() if not n.startswith(("PREFECT_", "HF_", "OPENAI_"))}
    places = {"HOME": "home", "TMPDIR": "tmp", "HF_HOME": "hf", "COUNTERFOIL_HOME": "counterfoil"}
    for folder in places.values():
        (home / folder).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps(commands),
        env={
            **own,
            **{name: str(home / folder) for name, folder in places.items()},
            "PREFECT_LOGGING_LEVEL": "INFO",  # more than a person sees
            "OPENAI_API_KEY": planted.openai,
            "OWN_KEY": planted.own,
            "HF_TOKEN": planted.hub,
            **more,
        },
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def codes(said: str) -> list[str]:
    return [line.split()[2] for line in said.splitlines() if line.startswith("code ")]


def recipe_with(path: Path, server: EchoingServer, own: EchoingServer, **changes: Any) -> Path:
    writer, judge, target = server.model("writer"), server.model("judge"), own.model("target")
    models = {
        "generator": writer,
        "targets": [target],
        "judges": [judge, "divergence"],
        "relabel_judges": [judge],
    }
    return write_recipe(
        path,
        server,
        models=models,
        families={
            "open": {"questions": 3, "samples": 2, "max_tokens": 30, "framings": ["explicit", "implicit"]},
            "decision": {"questions": 2, "samples": 2},
            "completion": {"questions": 2, "samples": 1, "attributes": ["beauty"]},
        },
        budget={"free": [writer, judge, target]},
        api_keys={own.url.removesuffix("/v1"): "OWN_KEY"},
        validate={"max_failure_rate": 0.3, "below_coverage": "report"},
        limits={"max_in_flight": 8, "attempts": 8},
        **changes,
    )


@pytest.mark.slow
def test_no_file_and_no_output_contains_a_secret(
    planted: Planted, postgres: PostgresServer | None, tmp_path: Path
) -> None:
    more = {CACHE_URL: postgres.url} if postgres else {}
    # A refusal is final, and the order of arrival decides which call gets it, so one server refuses all.
    with (
        EchoingServer(scripted, refuses=0.0, fails=0.12, seed=1) as server,
        EchoingServer(scripted, refuses=0.0, fails=0.12, seed=2) as own,
        EchoingServer(scripted, refuses=1.0, fails=0.0, seed=3) as broken,
        HubServer(
            tmp_path / "hub",
            tokens={planted.hub: "write"},
            echoes_token=True,
            faults={1: hub_status(500), 4: hub_status(503, as_json=False)},
        ) as hub,
    ):
        home = tmp_path / "home"
        home.mkdir()
        good = recipe_with(home / "good.yaml", server, own)
        bad = recipe_with(home / "bad.yaml", server, broken, name="bad")
        release = home / "counterfoil/releases/tested/0.1.0"
        judge, target = server.model("judge"), own.model("target")
        cost = ["--free", target, "--free", judge]
        said = run(
            home,
            planted,
            [
                (["plan", str(good), "--json"], {}),
                (["build", str(good), "--json"], {}),
                (["build", str(bad), "--json"], {}),
                (
                    [
                        "evaluate",
                        str(release),
                        "--model",
                        target,
                        "--recipe",
                        str(good),
                        "--samples",
                        "2",
                        *cost,
                    ],
                    {},
                ),
                (["audit-judge", judge, "--free", judge, "--scenes", "8"], {}),
                (["relabel", str(PROJECT / "data/examples/retrieval.jsonl"), "--judge", judge, *cost], {}),
                (["publish", str(release), "--repo", "org/name"], {}),
                (["publish", str(release), "--repo", "org/name"], {"HF_TOKEN": f"no-{planted.hub}"}),
            ],
            HF_ENDPOINT=hub.url,
            HF_HUB_OFFLINE="0",
            **more,
        )
        assert server.echoed > 5
        assert own.echoed > 5
        assert broken.echoed > 5
    assert codes(said) == ["0", "0", "5", "0", "0", "0", "0", "2"], said
    assert found_in(said.encode(), planted.all()) == []
    assert leaks(home, planted.all()) == {}
    if postgres:
        stored = stored_answers(postgres)
        assert stored
        assert found_in(stored, planted.all()) == []


def stored_answers(postgres: PostgresServer) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_URL, postgres.url)
        engine = open_engine(cache_url(Path("unused")))
    with engine.connect() as connection:
        return repr(connection.execute(select(answers())).all()).encode()


MISTAKES = {
    "user and password": {"models": {"targets": ["openai:m@http://me:SECRET@localhost:9/v1"]}},
    "query": {"models": {"targets": ["openai:m@http://localhost:9/v1?key=SECRET"]}},
    "free": {"budget": {"free": ["openai:m@http://me:SECRET@localhost:9/v1"]}},
    "endpoint of a key": {"api_keys": {"http://me:SECRET@localhost:9": "OWN_KEY"}},
    "the key itself": {"api_keys": {"http://localhost:9": "SECRET"}},
    "unknown section": {"openai_api_key": "SECRET"},
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_secret_in_the_wrong_place_is_refused_and_not_shown(
    mistake: dict[str, Any], planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from flows.cli import cli

    secret = "".join(c for c in planted.address if c.isalnum())
    home = tmp_path / "home"
    monkeypatch.setenv("COUNTERFOIL_HOME", str(home))
    recipe = tmp_path / "recipe.yaml"
    said = {
        "name": "wrong",
        "attributes": ["gender"],
        "models": {"targets": ["embedded:smollm2-135m"]},
        "families": {"open": {"questions": 2}},
    }
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps(said | mistake).replace("SECRET", secret))))
    done = CliRunner().invoke(cli, ["plan", str(recipe)])
    assert done.exception is not None
    assert found_in(f"{done.output} {done.exception!r} {done.exception}".encode(), (secret,)) == []
    assert leaks(home, (secret,)) == {}


@pytest.mark.parametrize("option", ["--model", "--judge", "--free"])
def test_an_option_with_a_password_is_refused_before_prefect_records_it(
    option: str, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from flows.cli import cli

    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    secret = quote(planted.address, safe="")
    needed = [] if option == "--model" else ["--model", "embedded:smollm2-135m"]
    given = [option, f"openai:m@http://me:{secret}@localhost:9/v1"]
    done = CliRunner().invoke(cli, ["evaluate", str(tmp_path), *needed, *given])
    assert isinstance(done.exception, InputError)
    assert found_in(f"{done.output} {done.exception}".encode(), (secret,)) == []
    assert not (tmp_path / "home" / "runs").exists()


def test_a_failed_call_never_tells_the_key(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", planted.own)
    with EchoingServer("yes", refuses=0.8, fails=0.0, seed=4) as server:
        settings = settings_for(tmp_path, server.model())
        outcomes = ask(server.model(), settings, questions(200)).values()
    told = " ".join(o.message for o in outcomes if isinstance(o, Failure))
    assert "answered 400" in told
    assert found_in(told.encode(), (planted.own,)) == []
