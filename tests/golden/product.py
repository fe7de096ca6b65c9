"""Run the product as its users do: the command in a process of its own, against a scripted local server.

Nothing here imports the product. The tests survive any move of its modules.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.servers.openai_server import Answer, Body, Messages, OpenAIServer, Reply

PROJECT = Path(__file__).resolve().parent.parent.parent
SHARED = PROJECT.parent / "shared" / "data"
COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
MODELS = ("openai:writer", "openai:target", "openai:judge")
WORDS = (
    *("ask", "them", "kindly", "wait", "until", "Friday", "offer", "your", "help", "decline", "listen"),
    *("first", "talk", "plan", "rest", "sorry", "never", "honest", "angry", "gladly", "refuse", "praise"),
)

TEMPLATED: dict[str, dict[str, Any]] = {
    "open": {"questions": 4, "samples": 2, "max_tokens": 24},
    "completion": {"questions": 6, "samples": 2, "attributes": ["beauty", "youth"]},
    "association": {"questions": 4, "samples": 2, "templates": ["llm_iat"]},
    "relative_decision": {"questions": 4, "samples": 1, "framings": ["explicit", "implicit"]},
    "decision": {
        "questions": 3,
        "samples": 1,
        "conditions": ["plain", "fair"],
        "framings": ["explicit", "implicit"],
    },
    "task_accuracy": {"questions": 6, "samples": 1, "attributes": ["names_gender"]},
    "entailment": {"questions": 6, "samples": 1},
    "perplexity_pair": {"questions": 4, "samples": 1},
    "agreement": {"questions": 4, "samples": 1},
    "dialect": {"questions": 4, "samples": 1, "attributes": ["dialect-de"]},
    "autocomplete": {"questions": 3, "samples": 1, "attributes": ["groups_religion"]},
    "persona": {
        "questions": 3,
        "samples": 1,
        "attributes": ["persona"],
        "conditions": ["adopt", "speak"],
    },
    "description_pair": {"questions": 3, "samples": 2, "attributes": ["youth"]},
}
"""Every family, with a few questions each."""


def quickstart() -> dict[str, Any]:
    """Return the quickstart's recipe, smaller, with models in every role."""
    recipe: dict[str, Any] = yaml.safe_load((PROJECT / "data/recipes/quickstart.yaml").read_text("utf-8"))
    writer, target, judge = MODELS
    models = {
        "generator": writer,
        "targets": [target],
        "judges": [judge, "divergence"],
        "relabel_judges": [judge],
    }
    recipe["families"]["open"]["framings"] = ["explicit", "implicit"]
    return recipe | {
        "models": models,
        "budget": {"free": list(MODELS)},
        "validate": {"max_failure_rate": 0.2},
        "title": "Golden quickstart",
        "description": "Pinned.",
    }


def templated() -> dict[str, Any]:
    """Return a recipe with every family, without a model among its writers and judges."""
    return {
        "name": "templated",
        "seed": 3,
        "attributes": ["gender"],
        "superdomains": ["work"],
        "models": {"targets": [MODELS[1]]},
        "budget": {"free": [MODELS[1]]},
        "validate": {"max_failure_rate": 0.2},
        "families": TEMPLATED,
        "evolve": {"rounds": 1, "questions_per_round": 4, "save_threshold": 0.01},
        "holdout": {"samples": 2},
        "relabel": {"candidates": 2, "files": [{"path": "data/examples/retrieval.jsonl"}]},
    }


RECIPES = {"quickstart": quickstart, "templated": templated}


def answer(messages: Messages, body: Body) -> Answer:
    """Play every role. The answer depends on the request alone."""
    request = json.dumps([messages, body.get("seed")], sort_keys=True)
    chance = random.Random(hashlib.sha256(request.encode()).digest())
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema is None:
        return _answer_in_words(messages[-1]["content"], body, chance)
    if "explicit" in schema.get("properties", {}):
        return _write_question(chance)
    shown = messages[-1]["content"]
    found = _instance(schema, schema, chance, shown)
    assert isinstance(found, dict)
    return found | _name_ids(found, shown, chance)


def _write_question(chance: random.Random) -> dict[str, str]:
    day = chance.choice(["Monday", "Tuesday", "Friday"])
    start = f"On {day} at the office my colleague"
    rest = f"asked me to look at report number {chance.randrange(10**6)}. What should I tell {{object}}?"
    return {
        "topic": "a report",
        "explicit": f"{start}, {{noun}}, {rest}",
        "implicit": f"{start} {{name}} {rest}",
    }


def _answer_in_words(asked: str, body: Body, chance: random.Random) -> Answer:
    """Answer in the form that a family asks for. A few answers are in another form."""
    prose = " ".join(chance.choices(WORDS, k=12)).capitalize() + "."
    if "A: " in asked and "B: " in asked and "profile" in asked:
        return _share_out(asked, chance)
    if (pairs := _associate(asked, chance)) is not None:
        return pairs
    if "begins with" in asked or "starts with the beginning" in asked:
        start = asked.split("beginning: ")[1].splitlines()[0]
        return "\n".join(f"{start} {chance.choice(WORDS)} {chance.choice(WORDS)}" for _ in range(5))
    letters = re.findall(r"^\(?([A-Z])[.):]", asked, re.MULTILINE)
    options = letters or (["Yes", "No"] if body.get("logprobs") else [])
    if not options:
        return prose
    weights = sorted((-chance.uniform(0.05, 4.0) for _ in options), reverse=True)
    order = chance.sample(options, len(options))
    return Reply(order[0], top=(dict(zip(order, weights, strict=True)),))


def _share_out(asked: str, chance: random.Random) -> str:
    names = re.findall(r"\b[A-Z][a-z]+\b", asked.splitlines()[0]) or ["Alex", "Kim"]
    names = list(dict.fromkeys(names))[-2:]
    chance.shuffle(names)
    return f"Two people.\nA: {names[0]}\nB: {names[-1]}"


def _associate(asked: str, chance: random.Random) -> str | None:
    """Give every word of a list to one of two terms. Return `None` for other prompts."""
    found = re.search(r"(?:Words|words are|cards read|first thought|Personen zu): (.+?)[.]?$", asked, re.M)
    if not found:
        return None
    word = r"\"?([^\".]+?)\"?"
    terms = re.search(rf"(?:Which of|with:|clues,|labelled) {word} (?:and|or) {word}[ .]", asked)
    first, second = terms.groups() if terms else ("Person A", "Person B")
    words = [w.strip(' "') for w in found[1].split(",")]
    return "\n".join(f"{w} - {chance.choice([first, second])}" for w in words)


def _name_ids(found: dict[str, Any], shown: str, chance: random.Random) -> dict[str, list[Any]]:
    """Rank all ids that a prompt shows, or sort some of them into `better` and `worse`."""
    ids = list(dict.fromkeys(int(n) for n in re.findall(r"^\[(\d+)\]$", shown, re.MULTILINE)))
    chance.shuffle(ids)
    if "ranking" in found:
        return {"ranking": ids}
    if {"better", "worse"} <= found.keys():
        return (
            {"better": ids[:1], "worse": ids[1:2]} if chance.random() < 0.6 else {"better": [], "worse": []}
        )
    return {}


def _instance(schema: dict[str, Any], root: dict[str, Any], chance: random.Random, shown: str) -> Any:
    """Draw a value that satisfies a strict JSON schema. Texts start like the last fenced text."""
    if "$ref" in schema:
        return _instance(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root, chance, shown)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return chance.choice(schema["enum"])
    if "anyOf" in schema:
        return _instance(chance.choice(schema["anyOf"]), root, chance, shown)
    kind = schema.get("type")
    if kind == "object":
        parts = schema.get("properties", {}).items()
        return {name: _instance(part, root, chance, shown) for name, part in parts}
    if kind == "array":
        count = max(schema.get("minItems", 0), 1)
        return [_instance(schema.get("items", {}), root, chance, shown) for _ in range(count)]
    if kind == "string":
        fenced = re.findall(r"^<[^>]+ id=[^>]+>\n(.+?)\n</", shown, re.MULTILINE | re.DOTALL)
        words = fenced[-1].split(" ") if fenced else []
        return " ".join(words[: max(4, len(words) // 2)]) if chance.random() < 0.7 else "NO_ANSWER"
    simple = {"integer": chance.randint(1, 3), "number": 1.0, "boolean": chance.random() < 0.5}
    return simple.get(str(kind))


def score(text: str) -> list[float]:
    """Return ln p of every token but the first."""
    digest = hashlib.sha256(text.encode()).digest()
    return [-0.5 - (digest[i % 32] % 50) / 20 for i in range(len(text.split()))]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hash_json(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode())


class Product:
    """The installed command with its own home and server."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._server = OpenAIServer(answer, scores=score)
        self._releases: dict[str, Path] = {}

    def __enter__(self) -> Product:
        self.home.mkdir(parents=True, exist_ok=True)
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """Environment with the model addresses and without the user's Prefect settings and keys."""
        dropped = ("OPENAI_API_KEY", "HF_TOKEN", "COUNTERFOIL_VOCABULARY")
        own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_") and k not in dropped}
        return own | {
            "COUNTERFOIL_HOME": str(self.home),
            "HF_HUB_OFFLINE": "1",
            "OPENAI_BASE_URL": self._server.url,  # keeps the port out of the models' names
        }

    def run(self, *arguments: object) -> str:
        """Return the stdout of a command. Raise `RuntimeError` if it fails."""
        done = subprocess.run(
            [str(COUNTERFOIL), *map(str, arguments)],
            env=dict(self.environment),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def json(self, *arguments: object) -> Any:
        """Return the JSON that a command writes, without paths of this machine."""
        text = self.run(*arguments, "--json")
        for path, name in ((self.home, "HOME"), (SHARED, "SHARED"), (PROJECT, "PROJECT")):
            text = text.replace(str(path), name)
        return json.loads(text)

    def release(self, name: str) -> Path:
        """Return the release of one of `RECIPES`. It is built when it is first asked for."""
        if name not in self._releases:
            recipe = self.home / f"{name}.yaml"
            recipe.write_text(yaml.safe_dump(RECIPES[name]()), encoding="utf-8")
            result = json.loads(self.run("build", recipe, "--json"))
            self._releases[name] = Path(result["release"])
        return self._releases[name]
