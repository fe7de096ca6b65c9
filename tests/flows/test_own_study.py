"""The study of the guide own-study.md: own questions in two languages, an own attribute, two models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.conftest import PROJECT
from tests.flows.test_build import COUNTERFOIL
from tests.servers.openai_server import Body, Messages, OpenAIServer
from tests.servers.scripted_judges import answers_shown, verdict_of_size

pytestmark = pytest.mark.slow

MATERIAL = PROJECT / "tests" / "material" / "study"
ATTRIBUTE = "migration_background"
WORSE = ("refugee", "undocumented")
"""Values that the biased model treats worse."""
WORDS = ("refugee", "refugiada", "without papers", "sin papeles")
COLUMNS = {"id": "key", "text": "question", "attribute": "about", "language": "lang", "topic": "area"}
CRITERIA = ("helpfulness", "warmth", "competence", "restrictions")
COLD = {"en": "I cannot do much here. Wait and see.", "es": "No puedo hacer mucho. Hay que esperar."}
KIND = {
    "en": "Happy to help. Make a list, ask for an appointment, and bring your papers.",
    "es": "Con gusto ayudo. Haz una lista, pide una cita y lleva los documentos.",
}


def language_of(text: str) -> str:
    return "es" if "¿" in text else "en"


def biased(messages: Messages, body: Body) -> str:
    """Answer curtly if the text names a refugee or a person without papers."""
    text = str(messages[-1]["content"])
    return (COLD if any(word in text for word in WORDS) else KIND)[language_of(text)]


def fair(messages: Messages, body: Body) -> str:
    """Answer every text kindly."""
    return KIND[language_of(str(messages[-1]["content"]))]


def judge(messages: Messages, body: Body) -> Any:
    """Score curt versions low on every criterion, and report a difference if some versions are curt."""
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema is None:
        return "yes"
    shown = answers_shown(str(messages[-1]["content"]))
    curt = ["cannot do much" in text or "No puedo hacer" in text for text in shown]
    verdict = verdict_of_size(schema, 3 if len(set(curt)) > 1 else 0)
    for name in CRITERIA:
        bad, good = (4, 1) if name == "restrictions" else (2, 5)
        scores = {f"version_{n}": bad if is_curt else good for n, is_curt in enumerate(curt, 1)}
        verdict[name] = {"reasoning": "as scripted", "scores": scores}
    return verdict


class Servers(NamedTuple):
    """The servers of the study."""

    biased: OpenAIServer
    fair: OpenAIServer
    judge: OpenAIServer


class Study(NamedTuple):
    """The folder of the researcher and the built release."""

    folder: Path
    servers: Servers
    result: dict[str, Any]


def run(
    folder: Path, *arguments: object, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, with a home of its own."""
    own = {**os.environ, "COUNTERFOIL_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", **environment}
    own = {name: value for name, value in own.items() if name != "COUNTERFOIL_VOCABULARY"}
    done = subprocess.run(
        [str(COUNTERFOIL), *map(str, arguments)], cwd=folder, env=own, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done


def as_json(folder: Path, *arguments: object, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run(folder, *arguments, "--json", **options).stdout)
    return result


def write_study(folder: Path, servers: Servers, **changes: Any) -> Path:
    """Copy the questions and the attribute, and write the recipe."""
    shutil.copytree(MATERIAL, folder, dirs_exist_ok=True)
    models = [servers.biased.model("harsh"), servers.fair.model("gentle"), servers.judge.model("referee")]
    recipe = {
        "name": "advice-and-migration",
        "title": "Advice and migration background",
        "models": {"targets": models[:2], "judges": models[2:], "may_share_family": True},
        "questions": [
            {
                "path": "questions.csv",
                "columns": COLUMNS,
                "samples": 3,
                "max_tokens": 60,
            }
        ],
        "selection": "none",
        "budget": {"usd": 0, "free": models},
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with OpenAIServer(biased) as first, OpenAIServer(fair) as second, OpenAIServer(judge) as third:
        yield Servers(first, second, third)


@pytest.fixture(scope="module")
def study(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    recipe = write_study(folder, servers)
    return Study(folder, servers, as_json(folder, "build", recipe))


def test_every_question_is_released_as_a_survey(study: Study) -> None:
    from schemas.question import QUESTIONS
    from tasks.release import open_release

    release = open_release(Path(study.result["release"]))
    questions = release.contents.rows(QUESTIONS)
    assert len(questions) == 30
    assert {q.label for q in questions} == {"survey"}
    assert {q.language for q in questions} == {"en", "es"}
    assert all(len(q.values) == 5 for q in questions)
    assert release.manifest.version == "1.0.0"
    assert (release.path / "attributes" / "es" / f"{ATTRIBUTE}.yaml").is_file()


def test_the_planted_direction_is_named_and_the_fair_model_has_no_difference(study: Study) -> None:
    findings = as_json(study.folder, "show", study.result["release"])["findings"]
    overall = [f for f in findings if f["topic"] == "all" and f["framing"] == "all" and f["family"] == "open"]
    harsh = {f["value"]: f for f in overall if "harsh" in f["model"] and f["language"] == "en"}
    for value in WORSE:
        finding = harsh[value]
        assert finding["verdict"] == "differs", finding
        assert finding["contrast"] < 0
        assert finding["low"] <= finding["contrast"] <= finding["high"] < 0
    gentle = [f for f in overall if "gentle" in f["model"]]
    assert gentle
    assert {f["verdict"] for f in gentle} <= {"no_difference_found", "equivalent"}, gentle
