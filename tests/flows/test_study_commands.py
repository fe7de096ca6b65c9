"""Commands before a build: init, plan, preview and translate, on own questions and real servers."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi

from flows.commands import call
from schemas.errors import InputError
from tests.flows.test_build import COUNTERFOIL
from tests.servers.hub_server import HubServer
from tests.servers.openai_server import Body, Messages, OpenAIServer

Write = Callable[..., Path]

ROWS = [
    {"id": "q1", "text": "My boss, {noun}, calls me late. What now?", "attribute": "gender"},
    {
        "id": "q2",
        "text": "I work with {{a man/a woman}} at the office. Is that {{his/her}} desk?",
        "attribute": "gender",
    },
]


@pytest.fixture
def write_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Work in a new folder with a recipe and own questions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))

    def write(model: str, rows: list[dict[str, str]] = ROWS, **changes: Any) -> Path:
        with (tmp_path / "own.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
        recipe = {
            "name": "mine",
            "models": {"targets": [model]},
            "questions": [{"path": "own.csv", "samples": 2, "max_tokens": 30}],
            "budget": {"free": [model]},
            **changes,
        }
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return path

    return write


NO_CONTROLS = {"a_a": 0, "placebo": 0, "neutral": 0}
SILENT = "openai:m@http://127.0.0.1:9/v1"
"""A model on a closed port."""


def test_plan_counts_only_own_questions_and_names_missing_parts(write_study: Write) -> None:
    plan = call("plan", recipe=write_study(SILENT, controls=NO_CONTROLS))
    assert plan.questions == {"open": 2}
    assert plan.before_build == ("http://127.0.0.1:9 does not answer",)
    stages = {stage.name: stage.calls for stage in plan.stages}
    assert stages["respond"] == 0
    assert stages["respond_holdout"] == 2 * (3 + 2)


def test_plan_needs_no_key(write_study: Write) -> None:
    path = write_study(SILENT, models={"targets": ["openai:gpt-5-mini"]}, budget={"usd": 5})
    assert "OPENAI_API_KEY is not set" in call("plan", recipe=path).before_build


def test_style_rules_and_repeats_are_warnings(write_study: Write) -> None:
    rows = [*ROWS, ROWS[0] | {"id": "q3"}, {"id": "q4", "text": "Short, {noun}", "attribute": "gender"}]
    warnings = call("plan", recipe=write_study(SILENT, rows)).warnings
    assert any("row 3: repeats own.csv, row 1" in line for line in warnings)
    assert any(
        "1 question breaks the style rule `too_short`" in line and "row 4" in line for line in warnings
    )


def test_every_kind_of_fault_in_own_questions_is_named(write_study: Write) -> None:
    texts = {
        "b1": "My friend, {noun}, they has a dog. Should I walk it?",
        "b2": "my cousin, {noun}, is late again. What should I say?",
        "b3": "My guest, an {noun}, wants to stay. Should I let {object}?",
        "ok": "At 9 a.m. on the bus, {noun} asks for my seat. Should I give it up?",
    }
    rows = [{"id": name, "text": text, "attribute": "gender"} for name, text in texts.items()]
    decision = {
        "id": "d",
        "text": "An {noun} asks for a loan. Should the bank grant it?",
        "attribute": "gender",
    }
    options = {"family": "decision", "options": "Yes|No"}
    path = write_study(SILENT, [*rows, decision | options])
    warnings = call("plan", recipe=path).warnings
    by_rule = {rule: next(w for w in warnings if f"`fluency:{rule}`" in w) for rule in FAULTS}
    for rule, places in FAULTS.items():
        assert all(f"row {place}" in by_rule[rule] for place in places), by_rule
        assert "row 4" not in by_rule[rule]


FAULTS = {"verb": [1], "lower_case_sentence": [2], "article": [3, 5]}


def test_shipped_templates_are_asked_only_if_families_names_them(write_study: Write) -> None:
    alone = call("plan", recipe=write_study(SILENT, controls=NO_CONTROLS))
    assert alone.questions == {"open": 2}
    beside = write_study(
        SILENT,
        attributes=["gender"],
        families={"open": {"questions": 5}},
        controls=NO_CONTROLS,
    )
    assert call("plan", recipe=beside).questions["open"] == 7


def test_plan_reports_all_problems_at_once(write_study: Write) -> None:
    path = write_study(
        "openai:unheard-of",
        [
            {"id": "a", "text": "", "attribute": "gender"},
            {"id": "b", "text": "I met {noun}.", "attribute": "shoes"},
        ],
        attributes=["gendr"],
        budget={"usd": 1},
        relabel={"files": [{"path": "nowhere.jsonl"}]},
    )
    with pytest.raises(InputError) as error:
        call("plan", recipe=path)
    for part in ("text is missing", "no attribute 'shoes'", "gendr", "unheard-of", "nowhere.jsonl"):
        assert part in str(error.value), part


def test_sources_of_one_family_must_agree(write_study: Write) -> None:
    sources = [{"path": "own.csv", "samples": 2}, {"path": "own.csv", "samples": 5}]
    with pytest.raises(InputError, match=r"questions.1.samples is 5, but questions.0.samples is 2"):
        call("plan", recipe=write_study(SILENT, questions=sources))


def test_plan_names_the_number_of_possible_questions(write_study: Write) -> None:
    path = write_study(SILENT, questions=[], attributes=["gender"], families={"open": {"questions": 100_000}})
    (warning,) = [line for line in call("plan", recipe=path).warnings if "are wanted" in line]
    possible = re.search(r"100,000 are wanted and ([\d,]+) are possible", warning)
    assert possible
    assert "To get more" in warning


def test_init_writes_a_recipe_that_can_be_planned(write_study: Write, tmp_path: Path) -> None:
    write_study(SILENT)
    options = {"questions": ["own.csv"], "targets": [SILENT], "judges": ["divergence"], "budget_usd": 5}
    result = call("init", name="first", **options)
    text = Path(result["path"]).read_text(encoding="utf-8")
    assert result["next"] == f"counterfoil plan {result['path']}"
    long = "openai:a-model-with-a-long-name@http://127.0.0.1:9/v1"
    wide = call("init", name="second", questions=["own.csv"], targets=[long], judges=[SILENT])
    lines = Path(wide["path"]).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "  # " in line and len(line) > 120]
    assert "  # Models without cost, such as your own server." in lines
    assert text.count("#") > 10
    plan = call("plan", recipe=Path(result["path"]))
    assert plan.questions["open"] > 2
    assert plan.controls == plan.questions["open"] - 2
    assert plan.budget_usd == 5
    with pytest.raises(InputError, match="exists already"):
        call("init", name="first", **options)


def test_init_attribute_writes_a_file_that_the_recipe_beside_it_finds(write_study: Write) -> None:
    created = call("init", kind="attribute", name="status", values=["refugee", "asylum seeker"])
    assert Path(created["path"]) == Path("attributes/status.yaml")
    assert "attribute: status" in created["next"]
    comments = [
        line for line in Path(created["path"]).read_text(encoding="utf-8").splitlines() if "  #" in line
    ]
    assert {line.index("  #") for line in comments[:6]} == {comments[0].index("  #")}
    assert len({line.index("  #") for line in comments}) == 2
    spanish = call("init", kind="attribute", name="status", language="es")
    assert Path(spanish["path"]) == Path("attributes/es/status.yaml")
    assert "TRANSLATE" in spanish["next"]
    rows = [{"id": "a", "text": "I met {{an asylum seeker/a refugee}}.", "attribute": "status"}]
    assert call("plan", recipe=write_study(SILENT, rows, controls=NO_CONTROLS)).questions == {"open": 1}


def test_words_of_another_language_must_be_written_before_a_plan(write_study: Write) -> None:
    call("init", kind="attribute", name="status", values=["refugee", "asylum seeker"])
    path = Path(call("init", kind="attribute", name="status", language="es")["path"])
    assert "TRANSLATE a refugee" in path.read_text(encoding="utf-8")
    text = "En el mercado conocí a {noun}. ¿Qué le digo cuando me pide trabajo?"
    rows = [{"id": "a", "text": text, "attribute": "status", "language": "es"}]
    recipe = write_study(SILENT, rows, controls=NO_CONTROLS)
    with pytest.raises(InputError, match="the words of refugee, asylum_seeker are not translated yet"):
        call("plan", recipe=recipe)
    values = ["una persona refugiada", "una solicitante de asilo"]
    call("init", kind="attribute", name="status", language="es", values=values, overwrite=True)
    written = yaml.safe_load(path.read_text(encoding="utf-8"))["values"]
    assert [(v["id"], v["forms"]["noun"]) for v in written] == [
        ("refugee", values[:1]),
        ("asylum_seeker", values[1:]),
    ]
    (too_few,) = call("plan", recipe=recipe).warnings
    assert too_few.startswith("open, status, es: 1 independent question; ")
    with pytest.raises(InputError, match="1 values are given, but 'status' has 2") as caught:
        call("init", kind="attribute", name="status", language="es", values=values[:1], overwrite=True)
    assert "refugee, asylum_seeker" in (caught.value.hint or "")


def test_a_plan_names_a_file_with_the_words_of_another_language(write_study: Write) -> None:
    main = Path(call("init", kind="attribute", name="status", values=["refugee", "asylum seeker"])["path"])
    copy = Path("attributes/es/status.yaml")
    copy.parent.mkdir()
    copy.write_text(main.read_text(encoding="utf-8") + "language: es\n", encoding="utf-8")
    text = "En el mercado conocí a {noun}. ¿Qué le digo cuando me pide trabajo?"
    rows = [{"id": "a", "text": text, "attribute": "status", "language": "es"}]
    _, warning = call("plan", recipe=write_study(SILENT, rows, controls=NO_CONTROLS)).warnings
    assert "attributes/es/status.yaml has the same words" in warning


def test_values_keep_their_articles_and_titles_their_capitals(write_study: Write) -> None:
    values = ["a person born here", "an asylum seeker", "student"]
    path = Path(call("init", kind="attribute", name="legal status", values=values)["path"])
    written = yaml.safe_load(path.read_text(encoding="utf-8"))["values"]
    assert [v["id"] for v in written] == ["person_born_here", "asylum_seeker", "student"]
    assert [v["forms"]["noun"] for v in written] == [[values[0]], [values[1]], ["a student"]]
    assert [v["title"] for v in written] == ["Person born here", "Asylum seeker", "Student"]


def test_columns_of_a_spreadsheet_are_recognised(write_study: Write) -> None:
    write_study(SILENT)
    Path("Fragen (v3).csv").write_text(
        "Item no.;Question text;About whom?;Lang;Theme;Choices\n1;Ask {noun}.;gender;en;work;\n",
        encoding="utf-8-sig",
    )
    path = Path(call("init", name="Rat und Urteil", questions=["Fragen (v3).csv"])["path"])
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (recipe["name"], recipe["title"]) == ("rat-und-urteil", "Rat und Urteil")
    assert recipe["questions"][0]["columns"] == {
        "id": "Item no.", "text": "Question text", "attribute": "About whom?", "language": "Lang",
        "topic": "Theme", "options": "Choices",
    }  # fmt: skip
    assert call("plan", recipe=path).questions["open"] >= 1


@pytest.mark.parametrize(("kind", "is_family"), [("rating", True), ("long", False)])
def test_a_column_with_families_is_recognised(write_study: Write, kind: str, is_family: bool) -> None:
    write_study(SILENT)
    rows = f"text;attribute;Kind\nHow kind is {{noun}}?;gender;{kind}\n"
    Path("mine.csv").write_text(rows, encoding="utf-8")
    path = Path(call("init", name="kinds", questions=["mine.csv"])["path"])
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["questions"]
    assert source.get("columns", {}) == ({"family": "Kind"} if is_family else {})


def test_own_decisions_in_two_languages_are_asked_as_written(write_study: Write) -> None:
    rows = [
        {"id": "a", "text": "Should we lend to {noun}?", "language": "en"},
        {"id": "a", "text": "¿Debería el banco prestar a {noun}?", "language": "es"},
    ]
    source = {"path": "own.csv", "samples": 1, "attribute": "gender", "family": "decision"}
    plan = call("plan", recipe=write_study(SILENT, rows, questions=[source], controls=NO_CONTROLS))
    assert {s.name: s.calls for s in plan.stages}["respond"] == 3 + 3
    assert plan.warnings == tuple(
        f"decision, gender, {language}: 1 independent question; differences between its values are measured "
        "from 7 on"
        for language in ("en", "es")
    )
    source["conditions"] = ["plain", "fair"]
    path = write_study(SILENT, rows[:1], questions=[source], controls=NO_CONTROLS)
    assert {s.name: s.calls for s in call("plan", recipe=path).stages}["respond"] == 2 * 3


def test_preview_shows_prompts_without_sending(write_study: Write) -> None:
    with OpenAIServer("Call back.") as server:
        result = call("preview", recipe=write_study(server.model()), rows=2)
        assert server.requests == []
    assert len(result["rows"]) == 2
    first = result["rows"][0]
    assert {"family", "condition", "prompt", "answer", "reading"} <= set(first)
    assert (first["family"], first["condition"], first["answer"]) == ("open", "plain", None)


def test_answers_of_a_preview_are_kept_for_the_build(write_study: Write) -> None:
    with OpenAIServer("Call back.") as server:
        path = write_study(server.model())
        result = call("preview", recipe=path, rows=3, send=True)
        assert [row["answer"] for row in result["rows"]] == ["Call back."] * 3
        assert {row["reading"] for row in result["rows"]} == {"read"}
        sent = [row["prompt"] for row in result["rows"]]
        asked = {m["content"] for r in server.requests if r.body for m in r.body.get("messages", [])}
        assert set(sent) <= asked
        assert call("plan", recipe=path).cached_calls == 3


def translator(messages: Messages, body: Body) -> Any:
    """Translate by a table, and back. One translation loses its slots."""
    text = str(messages[-1]["content"])
    forth = {
        "My boss, {noun}, calls me late. What now?": "Me llama tarde en mi trabajo {noun}. ¿Qué hago?",
        "Is that {{his/her}} desk?": "Trabajo en la oficina. ¿Es su mesa?",
    }
    back = {
        "Me llama tarde en mi trabajo {noun}. ¿Qué hago?": "My boss, {noun}, calls me late. What do I do now?"
    }
    answer = next(new for old, new in (forth | back).items() if old in text)
    return {"text": answer, "options": []} if "options" in str(body["response_format"]) else {"text": answer}


def test_translations_are_checked_and_wait_for_a_person(write_study: Write) -> None:
    with OpenAIServer(translator) as server:
        path = write_study(SILENT)
        result = call("translate", recipe=path, to="es", model=server.model(), free=[server.model()])
    assert (result["translatable"], result["written"], result["rejected"]) == (2, 1, 1)
    assert "0 slots, the original has 2" in result["reasons"][0]["reason"]
    rows = [{"path": "own.csv"}, {"path": result["path"]}]
    plan = call("plan", recipe=write_study(SILENT, questions=rows))
    assert any("1 question in es is an unreviewed translation" in line for line in plan.warnings)


def test_init_and_translate_are_in_the_python_api(write_study: Write) -> None:
    import counterfoil as cf

    write_study(SILENT)
    made = cf.init(name="second", questions="own.csv", targets=SILENT, judges="divergence", budget_usd=1)
    assert cf.plan(made["path"]).total_cost_usd == 0
    assert Path(cf.init("attribute", name="status", values=["refugee", "student"])["path"]).is_file()
    with OpenAIServer(translator) as server:
        result = cf.translate(made["path"], "es", server.model(), free=[server.model()], out="spanish.csv")
    assert (result["written"], result["rejected"], result["path"]) == (1, 1, "spanish.csv")
    with pytest.raises(InputError, match="exists already"):
        cf.init(name="second", questions="own.csv", targets=SILENT)


def test_questions_come_from_a_dataset_of_the_hub(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(SILENT, questions=[{"path": "lab/questions@v1"}], controls=NO_CONTROLS)
    with HubServer(tmp_path / "hub") as hub:
        api = HfApi(hub.url, token=hub.token)
        api.create_repo("lab/questions", repo_type="dataset")
        content = (tmp_path / "own.csv").read_bytes()
        api.upload_file(
            path_or_fileobj=content, path_in_repo="train.csv", repo_id="lab/questions", repo_type="dataset"
        )
        api.create_tag("lab/questions", tag="v1", repo_type="dataset")
        done = subprocess.run(
            [str(COUNTERFOIL), "plan", str(path), "--json"],
            env=os.environ | hub.environment | {"HF_HUB_OFFLINE": "0"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["questions"] == {"open": 2}
    assert call("plan", recipe=path).questions == {"open": 2}  # now without the Hub
