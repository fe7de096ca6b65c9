"""The command line: exit codes, places and next steps, one JSON object, nothing spent on a bad recipe."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from flows.cli import cli, main
from tests.conftest import DATA, PROJECT
from tests.servers.openai_server import OpenAIServer

GOOD: dict[str, Any] = {
    "name": "mine",
    "seed": 1,
    "attributes": ["gender"],
    "superdomains": ["work"],
    "models": {"targets": ["embedded:smollm2-135m"]},
    "families": {"open": {"questions": 3, "samples": 2}},
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))


def recipe(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Run the command in this process and return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["counterfoil", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: Path, command: str = "plan"
) -> tuple[int, str]:
    code, out, err = run(capsys, monkeypatch, command, path)
    assert out == ""
    assert "Traceback" not in err
    assert "next:" in err
    return code, err


def test_help_starts_without_heavy_imports() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv=['counterfoil','--help']\n"
            "import flows.cli\n"
            "try: flows.cli.main()\n"
            "except SystemExit: pass\n"
            "print(sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)",
        ],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    for heavy in ("prefect", "pydantic", "pyarrow", "openai", "pandas", "datasets", "great_expectations"):
        assert f"'{heavy}'" not in loaded.stderr
    assert "build" in loaded.stdout


def test_plan_needs_neither_prefect_nor_great_expectations_nor_datasets(tmp_path: Path) -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\n"
            f"sys.argv=['counterfoil','plan',{str(recipe(tmp_path))!r},'--json']\n"
            "import flows.cli\n"
            "try: flows.cli.main()\n"
            "except SystemExit: pass\n"
            "print(sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)",
        ],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "COUNTERFOIL_HOME": str(tmp_path / "home")},
    )
    json.loads(loaded.stdout)
    for heavy in ("prefect", "great_expectations", "datasets", "openai", "matplotlib"):
        assert f"'{heavy}'" not in loaded.stderr


def test_plan_prints_one_json_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "plan", recipe(tmp_path), "--json")
    plan = json.loads(out)
    assert code == 0
    assert {"name", "rows", "calls", "tokens_in", "tokens_out", "cost_usd"} <= set(plan["stages"][0])
    assert plan["total_cost_usd"] == 0
    assert plan["smallest_detectable_effect"]["gender"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"familys": {}}, "did you mean `families`"),
        ({"seed": "seven"}, "'seven'"),
        ({"attributes": ["gendr"]}, "gender"),
        ({"attributes": ["../../etc/passwd"]}, "attributes"),
        ({"families": {"opne": {}}}, "open"),
        ({"families": {"open": {"templates": ["../x"]}}}, "templates"),
        ({"models": {"targets": ["gpt-5"]}}, "models.targets"),
        ({"models": {"targets": ["embedded:gpt-9"]}}, "smollm2-135m"),
        ({"models": {"targets": ["replay:none.parquet"]}}, "none.parquet"),
        ({"superdomains": ["wrok"]}, "work"),
        ({"relabel": {"files": [{"path": "none.jsonl"}]}}, "none.jsonl"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else v,
)
def test_bad_recipe_is_one_clear_error(
    changes: dict[str, Any],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, err = refused(capsys, monkeypatch, recipe(tmp_path, **changes))
    assert code == 2
    assert message in err


def test_unknown_price_is_reported_before_anything_is_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIServer("x") as server:
        code, err = refused(
            capsys, monkeypatch, recipe(tmp_path, models={"targets": [server.model()]}), command="build"
        )
        assert not server.requests
    assert code == 4
    assert "budget.free" in err


def test_budget_below_the_estimate_stops_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    path = recipe(tmp_path, models={"targets": ["openai:gpt-5-mini"]}, budget={"usd": 0.0001})
    code, err = refused(capsys, monkeypatch, path, command="build")
    assert code == 4
    assert "budget" in err
    assert "sk-test" not in err


def test_missing_key_names_the_variable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(tmp_path, models={"targets": ["openai:gpt-5-mini"]})
    code, err = refused(capsys, monkeypatch, path, command="build")
    assert code == 2
    assert "OPENAI_API_KEY" in err


def test_unreachable_endpoint_is_reported_before_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "openai:x@http://127.0.0.1:9/v1"
    path = recipe(tmp_path, models={"targets": [model]}, budget={"free": [model]})
    code, err = refused(capsys, monkeypatch, path, command="build")
    assert code == 5
    assert "127.0.0.1:9" in err
    assert not (tmp_path / "home" / "runs" / "mine" / "journal.jsonl").exists()


def test_recipe_explains_every_key() -> None:
    shown = CliRunner().invoke(cli, ["recipe", "--explain"]).output
    for key in ("models.targets", "families.<name>.samples", "relabel.files", "validate.max_failure_rate"):
        assert key in shown


def test_unknown_command_and_option_exit_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, monkeypatch, "bild")[0] == 2
    assert run(capsys, monkeypatch, "plan", "x", "--nope")[0] == 2


def test_show_of_an_unknown_path_names_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run(capsys, monkeypatch, "show", tmp_path)
    assert code == 2
    assert "data/runs" in err


def test_relabelling_the_example_reports_its_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "clean.jsonl"
    source, truth = DATA / "examples" / "retrieval.jsonl", DATA / "examples" / "retrieval.qrels"
    code, printed, _ = run(capsys, monkeypatch, "relabel", source, "--truth", truth, "--out", out, "--json")
    result = json.loads(printed)
    assert code == 0
    assert out.exists()
    judged = result["promoted"] + result["filtered"] + result["kept"] + result["abstained"]
    assert judged <= result["candidates"]
    assert set(result["relabel_precision"]) >= {"value", "low", "high", "n"}


def test_recorded_verdicts_choose_the_graded_strategy_and_an_operating_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, truth = DATA / "examples" / "retrieval.jsonl", DATA / "examples" / "retrieval.qrels"
    lines = [line.split() for line in truth.read_text(encoding="utf-8").splitlines()]
    verdicts = tmp_path / "verdicts.csv"
    graded = "".join(f"{query},{doc},strict,{int(int(grade) > 2)}\n" for query, _, doc, grade in lines)
    verdicts.write_text("query_id,docid,judge,grade\n" + graded, encoding="utf-8")
    common = ("relabel", source, "--verdicts", verdicts, "--truth", truth, "--json")
    code, printed, _ = run(capsys, monkeypatch, *common, "--max-true-negatives-lost", "0.1")
    result = json.loads(printed)
    assert code == 0
    assert result["judged_by"] == ["strict"]
    assert result["true_negatives_lost"]["value"] <= 0.1
    assert {"rule", "held_out", "trade_off"} <= set(result["operating_point"])
    code, _, err = run(capsys, monkeypatch, *common, "--strategy", "cascade")
    assert code == 2
    assert "--strategy graded" in err


def test_audit_sheet_is_exported_for_review_and_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = DATA / "examples" / "retrieval.jsonl", tmp_path / "clean.jsonl"
    assert run(capsys, monkeypatch, "relabel", source, "--out", out, "--audit", "20", "--json")[0] == 0
    sheet = tmp_path / "clean.jsonl.audit.csv"
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(line | {"answers": "yes" if i % 3 == 0 else "no"} for i, line in enumerate(lines))
    code, printed, _ = run(capsys, monkeypatch, "relabel", source, "--audited", sheet, "--json")
    audit = json.loads(printed)["audit"]
    assert (code, audit["n"] + audit["abstained"]) == (0, 20)


def test_relabelling_reports_its_counts_and_losses_of_the_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, truth = DATA / "examples" / "retrieval.jsonl", DATA / "examples" / "retrieval.qrels"
    options = ("--out", tmp_path / "o.tsv", "--out-format", "msmarco", "--screen", "bm25:0.5:0.2")
    code, printed, _ = run(capsys, monkeypatch, "relabel", source, "--truth", truth, *options)
    assert code == 0
    for message in (
        "promoted",
        "ranked above positive",
        "screen missed",
        "lost passage ids",
        "true_negatives_lost",
    ):
        assert message in printed


def test_deduplicating_a_file_writes_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "items.csv"
    text = "How should I answer my neighbour about the broken garden fence"
    source.write_text(f"id,text\n1,{text}?\n2,{text}!\n3,Something else entirely here.\n")
    code, printed, _ = run(
        capsys, monkeypatch, "deduplicate", source, "--text", "text", "--out", tmp_path / "out", "--json"
    )
    result = json.loads(printed)
    assert (code, result["rows"], result["kept"], result["dropped"]) == (0, 3, 2, 1)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"kept.parquet", "dropped.parquet"}
