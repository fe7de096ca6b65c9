"""All pinned values: one named pin per command, with its current value.

`collect` computes the values. `expected.json` has the recorded ones.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.golden.product import PROJECT, RECIPES, SHARED, Product, hash_json, sha256

EXPECTED = Path(__file__).with_name("expected.json")
MODEL = "openai:judge"

Value = Any
"""Any JSON value."""


@dataclass(frozen=True)
class Pin:
    """One pinned value. `needs` is a file or folder without which it cannot be computed."""

    compute: Callable[[Product], Value]
    needs: Path | None = None


def read_expected() -> dict[str, Value]:
    """Return the recorded values, or none before the first renewal."""
    return json.loads(EXPECTED.read_text("utf-8")) if EXPECTED.is_file() else {}


def write_expected(values: Mapping[str, Value]) -> None:
    """Record values."""
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
    EXPECTED.write_text(text + "\n", encoding="utf-8")


# --- releases ---------------------------------------------------------------------------------------------

TEXT_FIELDS = ("counterfoil_version", "vocabulary")
"""Fields of a manifest that change with the version and with any data file."""


def tables_of(name: str, product: Product) -> Value:
    """Return the hash of every Parquet file of a release."""
    root = product.release(name)
    files = sorted((root / "data").rglob("*.parquet"))
    return {path.relative_to(root).as_posix(): sha256(path.read_bytes()) for path in files}


def manifest_of(name: str, product: Product) -> Value:
    """Return the hash of a normalised manifest, and that of each field to show differences.

    The version, the vocabulary, the files that are text for people, and the wording of warnings are left out.
    """
    manifest = json.loads((product.release(name) / "manifest.json").read_text("utf-8"))
    kept = {key: value for key, value in manifest.items() if key not in TEXT_FIELDS}
    kept["files"] = {path: hash for path, hash in manifest["files"].items() if path.endswith(".parquet")}
    kept["warnings"] = [
        {key: value for key, value in finding.items() if key not in ("message", "excerpt")}
        for finding in manifest["warnings"]
    ]
    fields = {key: hash_json(value)[:16] for key, value in kept.items()}
    return {"sha256": hash_json(kept), "fields": fields, "rows": kept["rows"], "counts": kept["counts"]}


def release_files(name: str, product: Product) -> Value:
    """Return the names of all files of a release."""
    root = product.release(name)
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def export_of(name: str, product: Product) -> Value:
    """Return the hash of a release's questions in CAB's columns."""
    out = product.home / f"{name}.csv"
    figures = product.json("export", product.release(name), "--format", "cab", "--out", out)
    del figures["out"]
    return {"told": figures, "sha256": sha256(out.read_bytes())}


RELEASED = ("open", "completion", "decision", "agreement", "dialect")
"""Families with a figure of their own over releases, and two without one. The others repeat `effects`."""


def measure_release(family: str, product: Product) -> Value:
    """Return the figures of a family as one hash, with the names of the metrics."""
    name = "quickstart" if family == "open" else "templated"
    found = product.json("measure", family, product.release(name), "--format", "release")
    return {"sha256": hash_json(found), "metrics": sorted(found)}


def release_pins() -> Iterable[tuple[str, Pin]]:
    for name in RECIPES:
        yield f"build {name}: tables", Pin(partial(tables_of, name))
        yield f"build {name}: manifest", Pin(partial(manifest_of, name))
        yield f"build {name}: files", Pin(partial(release_files, name))
    for family in RELEASED:
        yield f"measure {family} release", Pin(partial(measure_release, family))
    yield "export quickstart cab", Pin(partial(export_of, "quickstart"))


# --- relabel ----------------------------------------------------------------------------------------------

QUERY = "What is the capital of France?"
TOLD = "Everyone knows that the capital of France is Paris."
ANSWERS = "Paris is the capital of France."
NEAR = "The capital of the wide and sunny land of France was moved more than once before."
OFF = "Bread is baked in the morning."
OTHER, FLOUR = "How is bread baked?", "Bread is baked from flour in a hot oven."
TEVATRON = {
    "query_id": "q1",
    "query": QUERY,
    "positive_passages": [{"docid": "p", "title": "France", "text": TOLD}],
    "negative_passages": [
        {"docid": "same", "title": "", "text": ANSWERS},
        {"docid": "near", "text": NEAR},
        {"docid": "off", "text": OFF},
        {"docid": "empty", "text": ""},
    ],
    "note": "kept",
}
SECOND = {
    "query_id": "q2",
    "query": OTHER,
    "positive_passages": [{"docid": "f", "text": FLOUR}],
    "negative_passages": [{"docid": "off", "text": OFF}, {"docid": "same", "text": ANSWERS}],
}
CORPUS = {"p": TOLD, "same": ANSWERS, "near": NEAR, "off": OFF, "f": FLOUR}
INPUTS: dict[str, list[dict[str, Any]]] = {
    "flagembedding": [
        {
            "query": QUERY,
            "pos": [TOLD],
            "neg": [ANSWERS, NEAR, OFF],
            "pos_scores": [9.5],
            "neg_scores": [8.25, 3.0, 0.5],
            "pos_id": [7],
            "neg_id": ["a", "b", "c"],
            "prompt": "Answer.",
        },
        {"query": OTHER, "pos": [FLOUR], "neg": []},
    ],
    "tevatron": [TEVATRON, SECOND],
    "rlhn": [TEVATRON | {"subset": "fever"}, SECOND | {"subset": "nq"}],
    "tevatron-ids": [
        {
            "query_id": "q1",
            "query_text": QUERY,
            "positive_document_ids": ["p"],
            "negative_document_ids": ["same", "near", "off"],
        }
    ],
    "rankllm": [
        {
            "query": {"text": QUERY, "qid": "3"},
            "candidates": [
                {"docid": "p", "score": 2.5, "doc": {"title": "France", "segment": TOLD}, "label": 1},
                {"docid": "same", "score": 1.5, "doc": {"contents": ANSWERS}, "label": 0},
                {"docid": "off", "score": 0.5, "doc": {"contents": OFF}, "label": 0},
            ],
        }
    ],
    "n-tuple": [
        {"question": QUERY, "answer": TOLD, "negative_1": ANSWERS, "negative_2": NEAR, "negative_3": OFF}
    ],
    "triplet": [
        {"anchor": QUERY, "positive": TOLD, "negative": ANSWERS},
        {"anchor": QUERY, "positive": TOLD, "negative": OFF},
        {"anchor": OTHER, "positive": FLOUR, "negative": OFF},
    ],
    "labeled-pair": [
        {"query": QUERY, "passage": ANSWERS, "label": 0},
        {"query": QUERY, "passage": TOLD, "label": 1},
        {"query": QUERY, "passage": OFF, "label": 0},
    ],
    "labeled-list": [
        {"query": QUERY, "docs": [ANSWERS, TOLD, NEAR, OFF], "labels": [0, 1, 0, 0], "source": "x"}
    ],
}
TABBED = f"{QUERY}\t{TOLD}\t{ANSWERS}\n{QUERY}\t{TOLD}\t{OFF}\n{OTHER}\t{FLOUR}\t{OFF}\n"
FORMATS = (
    "flagembedding",
    "tevatron",
    "rankllm",
    "msmarco",
    "beir",
    "tevatron-ids",
    "labeled-pair",
    "rlhn",
    "triplet",
    "labeled-list",
    "n-tuple",
)
"""Formats. Each file is read in its format and written in the next one."""
GRADES = "".join(
    f"q1,{passage},{judge},{grade}\n"
    for passage, grades in {"p": (3, 3), "same": (3, 3), "near": (1, 2), "off": (0, 0)}.items()
    for judge, grade in zip(("first", "second"), grades, strict=True)
)
QRELS = "q1 0 p 3\nq1 0 same 3\nq1 0 near 0\nq1 0 off 0\nq2 0 f 3\nq2 0 off 0\nq2 0 same 0\n"


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_input(folder: Path, format: str) -> Path:
    """Write a small set in one of the formats. Returns its file, or its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if format in INPUTS:
        write_lines(folder / "corpus.jsonl", ({"docid": i, "text": text} for i, text in CORPUS.items()))
        return write_lines(folder / "in.jsonl", INPUTS[format])
    if format == "msmarco":
        (folder / "in.tsv").write_text(TABBED, encoding="utf-8")
        return folder / "in.tsv"
    set_ = folder / "beir"
    write_lines(set_ / "corpus.jsonl", ({"_id": i, "title": "", "text": t} for i, t in CORPUS.items()))
    write_lines(set_ / "queries.jsonl", [{"_id": "q1", "text": QUERY, "metadata": {}}])
    (set_ / "qrels").mkdir(exist_ok=True)
    rows = ["query-id\tcorpus-id\tscore", "q1\tp\t1", "q1\tsame\t0", "q1\toff\t0"]
    (set_ / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return set_


def out_of(folder: Path, format: str) -> Path:
    """Return the output path of a format."""
    return folder / {"msmarco": "out.tsv", "beir": "out"}.get(format, "out.jsonl")


def relabelled(product: Product, folder: Path, input: Path, out: Path, *options: object) -> Value:
    """Relabel a file. Returns the figures of the command and the hash of every file that it wrote."""
    figures = product.json("relabel", input, "--out", out, *options)
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    written = {name: sha256(path.read_bytes()) for name, path in files.items() if name.startswith("out")}
    return {"figures": figures, "files": written}


def relabel_formats(read: str, write: str, product: Product) -> Value:
    folder = product.home / "relabel" / f"{read}-{write}"
    input = write_input(folder, read)
    return relabelled(product, folder, input, out_of(folder, write), "--format", read, "--out-format", write)


def relabel_file(name: str, input: Path, options: tuple[str, ...], product: Product) -> Value:
    """Relabel an existing file with options."""
    folder = product.home / "relabel" / name
    folder.mkdir(parents=True)
    (folder / "grades.csv").write_text("query_id,docid,judge,grade\n" + GRADES, encoding="utf-8")
    (folder / "qrels").write_text(QRELS, encoding="utf-8")
    source = input if input.is_absolute() else write_lines(folder / "in.jsonl", INPUTS["tevatron"])
    placed = [option.format(folder=folder) for option in options]
    return relabelled(product, folder, source, folder / "out.jsonl", *placed)


def relabel_pins() -> Iterable[tuple[str, Pin]]:
    for at, read in enumerate(FORMATS):
        write = FORMATS[(at + 1) % len(FORMATS)]
        yield f"relabel {read} to {write}", Pin(partial(relabel_formats, read, write))
    example = PROJECT / "data/examples/retrieval.jsonl"
    truth = ("--truth", str(PROJECT / "data/examples/retrieval.qrels"))
    model = ("--judge", MODEL, "--free", MODEL)
    cases: dict[str, tuple[Path, tuple[str, ...]]] = {
        "example, truth, audit, backfill": (
            example,
            (*truth, "--audit", "5", "--min-negatives", "3", "--too-few", "backfill"),
        ),
        "example, two stages with a model": (example, model),
        "example, cascade": (example, (*model, "--strategy", "cascade")),
        "example, graded by a model": (example, (*model, "--strategy", "graded")),
        "example, screened": (example, ("--screen", "bm25:0.5:0.5", "--mode", "remove_row")),
        "recorded grades": (
            Path("in.jsonl"),
            (
                *("--verdicts", "{folder}/grades.csv", "--truth", "{folder}/qrels"),
                *("--too-few", "drop_row", "--allow-abstentions"),
            ),
        ),
    }
    for name, (input, options) in cases.items():
        yield f"relabel {name}", Pin(partial(relabel_file, name, input, options))
    shared = SHARED / "retrieval"
    for file in ("flagembedding/reranker.jsonl", "rlhn/fiqa.stage_1.gpt-4o-mini.jsonl"):
        path = shared / file
        yield f"relabel shared {path.name}", Pin(partial(relabel_file, path.stem, path, ()), path)


# --- measure ----------------------------------------------------------------------------------------------


def _logit(scenario: int, race: str, gender: str) -> float:
    return scenario * 0.5 + (race == "Black") * 0.75 + (gender == "female") * scenario / 8


RECORDED: dict[tuple[str, str], str] = {
    ("completion", "subtler-biases"): (
        "context,anti_stereotype,stereotype,unrelated,item_category,type_category,response\n"
        "c,rude,kind,tall,positive,type1,kind\nc,kind,rude,tall,negative,type1,rude\n"
        "c,plain,pretty,tall,positive,type2,plain\nc,pretty,plain,tall,negative,type2,plain\n"
        "d,rude,kind,tall,positive,type1,tall\nd,kind,rude,tall,negative,type1,nothing\n"
    ),
    ("association", "llm-iat"): (
        ',0,category\n0,"home - rebecca\noffice - ben",career\n1,"home - ben\noffice - rebecca",career\n'
        '2,"home - rebecca\nwedding - rebecca\noffice - ben",career\n3,I will not,career\n'
    ),
    ("decision", "logits"): "decision_question_id,race,gender,prompt_format,yes_logit,no_logit\n"
    + "".join(
        f"{s},{race},{gender},{prompt},{_logit(s, race, gender)},0.5\n"
        for s in range(4)
        for race in ("white", "Black")
        for gender in ("male", "female")
        for prompt in ("default", "remove")
    ),
    ("agreement", "statements"): (
        "statement,condition,response\ns1,vanilla,I disagree.\ns1,disguise,I agree.\ns2,vanilla,I agree.\n"
        "s2,disguise,I agree\ns3,vanilla,Hm\ns3,disguise,disagree\n"
    ),
    ("agreement", "psychometric"): (
        "id,statement,condition,yes_num,no_num,refuse_num,error_num\n"
        "0,s,vanilla,4,6,0,0\n0,s,teaching,7,3,0,0\n2,t,vanilla,0,8,1,1\n2,t,teaching,2,7,1,0\n"
    ),
    ("persona", "answers"): "item,persona,gold,response\n"
    + "".join(
        f"i{i},,B,B\ni{i},A monk,B,{'B' if i < 10 else ''}\ni{i},a nurse,B,{'AB'[i % 2]}\n" for i in range(24)
    ),
    ("task_accuracy", "answers"): "template,task,group,gold,response\n"
    + "".join(
        f"t{t},{task},{group},B,{'b.' if group == 'white' or task == 'qa' or t else 'A'}\n"
        for t in range(3)
        for task in ("qa", "nli")
        for group in ("white", "Black ")
        for _ in range(4)
    ),
    ("entailment", "bbnli"): (
        "name,item,stereotype,wording,response\nn1,a,entailment,0,neutral\nn1,a,entailment,1,entailment\n"
        "n2,b,contradiction,0,neutral\nn2,b,contradiction,1,perhaps\nn3,a,2,0,Yes.\n"
    ),
}
SHARED_ANSWERS: tuple[tuple[str, str, str], ...] = (
    ("completion", "subtler-biases", "subtler_biases/outputs/llama_valid.csv"),
    ("completion", "subtler-biases", "subtler_biases/outputs/gpt_3.5_invalid.csv"),
    ("association", "llm-iat", "llm_iat/result_gpt4o/career_replication.csv"),
    ("association", "llm-iat", "llm_iat/result_gpt4o/weapon_replication.csv"),
    ("decision", "logits", "discrim_eval/logits_qwen2.5-7b-instruct.csv"),
)


def measured(family: str, format: str, file: Path, product: Product) -> Value:
    return product.json("measure", family, file, "--format", format)


def measure_recorded(family: str, format: str, product: Product) -> Value:
    file = product.home / f"{family}-{format}.csv"
    file.write_text(RECORDED[family, format], encoding="utf-8")
    return measured(family, format, file, product)


def measure_pins() -> Iterable[tuple[str, Pin]]:
    for family, format in RECORDED:
        yield f"measure {family} {format}", Pin(partial(measure_recorded, family, format))
    for family, format, file in SHARED_ANSWERS:
        path = SHARED / file
        yield (
            f"measure {family} {format} shared {path.stem}",
            Pin(partial(measured, family, format, path), path),
        )


# --- plans, recipes, forms --------------------------------------------------------------------------------

PLANS = ("quickstart", "forced_choices")
"""Recipes that are planned without a key. `standard.yaml` needs one."""


def plan_of(name: str, product: Product) -> Value:
    plan: dict[str, Any] = product.json("plan", PROJECT / "data" / "recipes" / f"{name}.yaml")
    plan.pop("before_build")  # depends on the servers that run on this machine
    return plan


def without_texts(schema: Value) -> Value:
    """Return a JSON schema without its descriptions."""
    if isinstance(schema, list):
        return [without_texts(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    named = {key: without_texts(part) for key, part in schema.items()}
    if isinstance(named.get("description"), str):
        del named["description"]
    return named


def texts_of(schema: Value, place: str = "") -> dict[str, str]:
    """Return every description of a JSON schema by its place."""
    found: dict[str, str] = {}
    listed = dict(enumerate(schema)) if isinstance(schema, list) else schema
    for key, part in listed.items() if isinstance(listed, dict) else ():
        if key == "description" and isinstance(part, str):
            found[place or "."] = part
        else:
            found |= texts_of(part, f"{place}.{key}" if place else str(key))
    return found


def recipe_schema(product: Product) -> Value:
    return product.json("recipe")


def recipe_keys(product: Product) -> Value:
    """Return the lines of `recipe --explain` that name a key."""
    return [line for line in product.run("recipe", "--explain").splitlines() if not line.startswith(" ")]


def deployments() -> dict[str, Any]:
    """Return the deployments of prefect.yaml by name."""
    content = yaml.safe_load((PROJECT / "prefect.yaml").read_text("utf-8"))
    return {entry["name"]: entry for entry in content["deployments"]}


def form_of(name: str) -> Value:
    """Return the parameter schema of a deployment's flow, found through its entrypoint."""
    from prefect.utilities.callables import parameter_schema

    path, _, function = deployments()[name]["entrypoint"].rpartition(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
    return parameter_schema(flow).model_dump()


def deployment_of(name: str) -> Value:
    """Return a deployment's entry without its texts and its module."""
    entry = {key: value for key, value in deployments()[name].items() if key != "description"}
    return entry | {"entrypoint": entry["entrypoint"].rpartition(":")[2]}


def form_pins() -> Iterable[tuple[str, Pin]]:
    for name in PLANS:
        yield f"plan {name}", Pin(partial(plan_of, name))
    yield "recipe schema", Pin(lambda product: without_texts(recipe_schema(product)))
    yield "recipe texts", Pin(lambda product: texts_of(recipe_schema(product)))
    yield "recipe keys", Pin(recipe_keys)
    for name in deployments():
        yield f"deployment {name}", Pin(lambda _, name=name: deployment_of(name))
        yield f"form {name}", Pin(lambda _, name=name: without_texts(form_of(name)))
        yield f"form {name}: texts", Pin(lambda _, name=name: texts_of(form_of(name)))


BUILD_PINS: dict[str, Pin] = dict(release_pins())
COMMAND_PINS: dict[str, Pin] = {
    name: pin for pins in (relabel_pins, measure_pins, form_pins) for name, pin in pins()
}
PINS: dict[str, Pin] = {**BUILD_PINS, **COMMAND_PINS}


def found_and_expected(name: str, product: Product) -> tuple[Value, Value]:
    """Compute one value and read the recorded one. Record it first if COUNTERFOIL_RENEW_GOLDEN is 1.

    Skip the test if the pin needs data that are absent.
    """
    pin = PINS[name]
    if pin.needs and not pin.needs.exists():
        pytest.skip(f"needs ../shared/data/{pin.needs.relative_to(SHARED).as_posix()}")
    found = json.loads(json.dumps(pin.compute(product)))
    if os.environ.get("COUNTERFOIL_RENEW_GOLDEN") == "1":
        write_expected(read_expected() | {name: found})
    return found, read_expected().get(name, "no value is recorded: renew the golden values")
