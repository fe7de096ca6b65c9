from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import InputError
from schemas.recipe import Models
from tasks.models.model_families import model_family, read_model_families, refuse_shared_families
from tests.conftest import DATA

KNOWN = read_model_families(DATA)
GPT, CLAUDE = "openai:gpt-5-mini", "openai:anthropic/claude-sonnet-4@https://gate.example/v1"
QWEN, LLAMA = (
    "openai:Qwen/Qwen3-32B@http://h:8000/v1",
    "openai:meta-llama/Llama-3.1-8B-Instruct@http://h:8001/v1",
)


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("openai:gpt-4o-mini-2024-07-18", {"openai"}),
        ("openai:o3-mini", {"openai"}),
        ("openai:chatgpt-4o-latest", {"openai"}),
        ("openai:ft:gpt-4o-mini:org::id", {"openai"}),
        ("openai:gpt-oss-20b@http://h:1/v1", {"openai"}),
        ("openai:EleutherAI/gpt-neox-20b@http://h:1/v1", {"eleuther"}),
        ("openai:Qwen/QwQ-32B-AWQ@http://h:1/v1", {"qwen"}),
        ("openai:qwen2.5-7b-instruct-q4_k_m@http://h:1/v1", {"qwen"}),
        ("openai:llama3:8b@http://localhost:11434", {"llama"}),
        ("openai:dolphin-2.9-llama3-8b@http://h:1/v1", {"llama"}),
        ("openai:mistralai/Mixtral-8x7B-Instruct-v0.1@http://h:1/v1", {"mistral"}),
        ("openai:google/gemma-3-27b-it@http://h:1/v1", {"google"}),
        ("openai:gemini-2.5-flash@http://h:1/v1", {"google"}),
        ("openai:deepseek-ai/DeepSeek-V3@http://h:1/v1", {"deepseek"}),
        ("openai:deepseek-ai/DeepSeek-R1-Distill-Qwen-32B@http://h:1/v1", {"deepseek", "qwen"}),
        ("openai:microsoft/Phi-4@http://h:1/v1", {"phi"}),
        ("embedded:smollm2-135m", {"smollm"}),
        ("vllm:/models/qwen3", {"qwen"}),
        ("replay:answers.parquet#openai:gpt-5", {"openai"}),
        ("openai:dolphins@http://h:1/v1", {"dolphins"}),
        ("openai:org/Own-7B-GPTQ-Int4@http://h:1/v1", {"own-7b"}),
        ("openai:Own-7B.Q4_K_M.gguf@http://h:2/v1", {"own-7b"}),
        ("openai:own-7b:free@http://h:3/v1", {"own-7b"}),
    ],
)
def test_family_follows_from_the_name(name: str, families: set[str]) -> None:
    assert model_family(name, KNOWN) == families


def roles(**changes: Any) -> Models:
    base: dict[str, Any] = {"generator": LLAMA, "targets": [QWEN], "judges": [GPT]}
    return Models.model_validate(base | changes)


@pytest.mark.parametrize(
    ("changes", "place", "named"),
    [
        ({"targets": [QWEN, "openai:gpt-4.1"]}, "models.judges", (GPT, "openai:gpt-4.1")),
        ({"holdout_targets": ["openai:o3"]}, "models.judges", (GPT, "openai:o3")),
        ({"generator": "openai:gpt-4.1"}, "models.judges", (GPT, "openai:gpt-4.1")),
        ({"judges": [CLAUDE, LLAMA]}, "models.judges", (LLAMA,)),
        ({"adjudicator": QWEN}, "models.adjudicator", (QWEN,)),
        ({"generator": QWEN}, "models.generator", (QWEN,)),
        ({"holdout_targets": [LLAMA]}, "models.generator", (LLAMA,)),
        (
            {"targets": ["openai:own@http://a:1/v1"], "judges": ["openai:org/OWN@http://b:1/v1"]},
            "models.judges",
            (),
        ),
    ],
)
def test_generator_judge_and_target_of_one_family_are_refused(
    changes: dict[str, Any], place: str, named: tuple[str, ...]
) -> None:
    with pytest.raises(InputError, match="family") as error:
        refuse_shared_families(roles(**changes), DATA)
    assert error.value.place == place
    assert all(name in error.value.message for name in named)
    assert "models.may_share_family" in str(error.value.hint)
    refuse_shared_families(roles(**changes, may_share_family=True), DATA)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"holdout_targets": [CLAUDE]},
        {"judges": ["divergence", GPT, CLAUDE]},
        {"targets": [QWEN], "holdout_targets": ["openai:qwen3-8b@http://h:9/v1"]},
        {"generator": "recombine", "targets": ["embedded:smollm2-135m"], "judges": ["divergence"]},
        {"relabel_judges": [QWEN]},
    ],
)
def test_models_of_different_families_and_rules_pass(changes: dict[str, Any]) -> None:
    refuse_shared_families(roles(**changes), DATA)


def test_no_word_belongs_to_two_families() -> None:
    words = [word for family in KNOWN.families.values() for word in family]
    assert len(set(words)) == len(words)
    assert all(word == word.lower() for word in words)
