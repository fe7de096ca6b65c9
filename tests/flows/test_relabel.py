"""The flow of a deployment gives the result of the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

from flows.options import read_options
from flows.relabel import relabel
from schemas.errors import InputError
from schemas.options import RelabelOptions
from tests.conftest import DATA, PROJECT
from tests.servers.hub_server import HubServer
from tests.servers.openai_server import OpenAIServer, Reply

COUNTERFOIL = str(Path(sys.executable).with_name("counterfoil"))


def test_flow_cleans_a_set_like_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    examples, out = DATA / "examples", tmp_path / "clean.jsonl"
    found = relabel.fn(str(examples / "retrieval.jsonl"), str(out), truth=str(examples / "retrieval.qrels"))
    assert found["rows"] == found["written"] == 16
    assert found["relabel_precision"]["value"] is not None
    assert out.is_file()


def test_request_options_reach_the_server_of_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MY_JUDGE_KEY", "sk-of-the-judge")
    with OpenAIServer('{"better": [], "worse": []}') as server:
        found = relabel.fn(
            str(DATA / "examples" / "retrieval.jsonl"),
            judges=[server.model()],
            free=[server.model()],
            limit=2,
            api_key_env="MY_JUDGE_KEY",
            extra_body='{"chat_template_kwargs": {"enable_thinking": false}}',
            max_tokens=77,
            allow_abstentions=True,
        )
        judged = [r for r in server.requests if "chat_template_kwargs" in r.body]
    assert found["rows"] == 2
    assert len(judged) >= 2
    for request in judged:
        assert request.body["chat_template_kwargs"] == {"enable_thinking": False}
        assert request.body["max_tokens"] == 77
        assert {k.lower(): v for k, v in request.headers.items()}["authorization"] == "Bearer sk-of-the-judge"


@pytest.mark.parametrize("kind", ["rerank", "embedding"])
def test_a_score_of_a_server_is_a_judge_on_the_command_line(kind: str, tmp_path: Path) -> None:
    row = {"query": "a b", "pos": ["a b c"], "neg": ["a b d", "e f"]}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")

    def overlap(query: str, passage: str) -> float:
        return len({*query.split()} & {*passage.split()}) / 2

    def vector(text: str) -> list[float]:
        return [1.0 + ("a" in text.split()), 1.0]

    with OpenAIServer(rerank=overlap, embeddings=vector) as server:
        command = [COUNTERFOIL, "relabel", "in.jsonl", "--judge", f"{kind}:{server.model()}", "--json"]
        done = subprocess.run(
            [*command, "--free", server.model()],
            cwd=tmp_path,
            env={**os.environ, "COUNTERFOIL_HOME": str(tmp_path / "home"), "OPENAI_API_KEY": "none"},
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout)
    assert (found["filtered"], found["kept"]) == (1, 1)


def test_a_judge_whose_verdicts_are_all_cut_off_is_stopped_by_its_first_rows(tmp_path: Path) -> None:
    rows = [{"query": f"ask {i}", "pos": [f"yes {i}"], "neg": [f"no {i}", f"not {i}"]} for i in range(150)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with OpenAIServer(Reply('{"better": [', finish_reason="length")) as server:
        command = [COUNTERFOIL, "relabel", "in.jsonl", "--judge", server.model(), "--free", server.model()]
        command += ["--out", "out.jsonl"]
        env = {**os.environ, "COUNTERFOIL_HOME": str(tmp_path / "home"), "OPENAI_API_KEY": "none"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        asked, written = len(server.requests), list(tmp_path.glob("out*"))
        allowed = subprocess.run(
            [*command, "--allow-abstentions"], cwd=tmp_path, env=env, capture_output=True
        )
    assert done.returncode == 5, done.stderr
    assert "the first 20 answers all ended at the length limit" in done.stderr
    assert asked < 50
    assert not written
    assert allowed.returncode == 0, allowed.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 150


@pytest.mark.parametrize("name", ["rerank:openai:m@http://u:p@h/v1", "rerank:other:m", "other:m"])
def test_a_score_of_a_server_that_cannot_be_named_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"password|unknown model backend 'other'"):
        read_options(RelabelOptions, {"input": str(tmp_path), "judge": [name]})


def test_a_dataset_without_a_revision_is_asked_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no file") as caught:
        read_options(RelabelOptions, {"input": "org/pairs"})
    assert "org/pairs@main" in str(caught.value.hint)


def test_relabels_a_dataset_of_the_hub(tmp_path: Path) -> None:
    out = tmp_path / "clean.jsonl"
    with HubServer(tmp_path / "hub") as hub:
        api = HfApi(hub.url, token=hub.token)
        api.create_repo("org/pairs", repo_type="dataset")
        added = api.upload_file(
            path_or_fileobj=str(DATA / "examples" / "retrieval.jsonl"),
            path_in_repo="data/train.jsonl",
            repo_id="org/pairs",
            repo_type="dataset",
        )
        for revision in ("main", added.oid):
            done = subprocess.run(
                [COUNTERFOIL, "relabel", f"org/pairs@{revision}", "--out", str(out), "--overwrite", "--json"],
                env=os.environ | hub.environment | {"COUNTERFOIL_HOME": str(tmp_path / "home")},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["rows"] == 16
        missing = subprocess.run(
            [COUNTERFOIL, "relabel", "org/pairs@v9", "--out", str(out)],
            env=os.environ | hub.environment | {"COUNTERFOIL_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
        )
    assert missing.returncode == 2
    assert "org/pairs has no tag 'v9'" in missing.stderr
    assert len(out.read_text(encoding="utf-8").splitlines()) == 16


def test_a_body_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(InputError, match="extra_body: it is not a JSON object"):
        relabel.fn("some.jsonl", extra_body="[1]")


def test_every_parameter_of_the_form_is_described() -> None:
    assert all("description" in p for p in relabel.prefect().parameters.model_dump()["properties"].values())


def test_deployment_names_parameters_that_the_flow_has() -> None:
    deployments = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    (found,) = [d for d in deployments if d["name"] == "relabel"]
    assert set(found["parameters"]) <= set(relabel.prefect().parameters.model_dump()["properties"])
    assert found["entrypoint"] == "flows/deployed.py:relabel"
