"""Families of related models.

Judges favour answers that related models wrote (arXiv 2404.13076). The models that write questions, answer
them and judge the answers should therefore be of different families.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from schemas.errors import InputError
from schemas.recipe import Models
from tasks.files.yaml import read_yaml
from tasks.models.names import parse_model_name

_QUANTISED = re.compile(
    r"[-_.](?:awq|gptq|gguf|ggml|mlx|exl2|bnb|fp(?:4|8|16)|bf16|nf4|int(?:4|8)|w\d+a\d+|i?q\d\w*|[468]-?bit)\b.*$"
)


class ModelFamilies(BaseModel):
    """Content of `data/model_families.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    families: dict[str, tuple[str, ...]]
    """Lower-case words that the model names of each family contain."""


def read_model_families(data_dir: Path) -> ModelFamilies:
    """Read `model_families.yaml` of the vocabulary folder."""
    return read_yaml(data_dir / "model_families.yaml", ModelFamilies)


def model_family(name: str, known: ModelFamilies) -> frozenset[str]:
    """Return the families of a model, by its name in a recipe.

    Most models have one. A model of one family that was trained on answers of another has several
    (`DeepSeek-R1-Distill-Qwen-32B`). A model of no known family forms its own: the name without organisation,
    tag and quantisation.
    """
    bare = _bare(name)
    by_word = {word: family for family, listed in known.families.items() for word in listed}
    pattern = "|".join(re.escape(word) for word in sorted(by_word, key=lambda word: (-len(word), word)))
    words = re.findall(rf"(?<![a-z0-9])(?:{pattern})(?![a-z])", bare)
    own = _QUANTISED.sub("", bare.partition(":")[0])
    return frozenset(by_word[word] for word in words) or frozenset({own})


def _bare(name: str) -> str:
    """Return the model part of a name: `openai:Qwen/Qwen3-32B@http://…` becomes `qwen3-32b`.

    A recording has the model after `#`.
    """
    model = parse_model_name(name)
    if model.backend == "replay" and "#" in model.name:
        return _bare(model.name.partition("#")[2])
    return model.name.rstrip("/").rsplit("/", 1)[-1].lower()


def refuse_shared_families(models: Models, data_dir: Path) -> None:
    """Check that generator, targets and judges are of different families.

    Rules such as `recombine` and `divergence` have no family.

    Raises:
        InputError: If two of them are related and `models.may_share_family` is not set.
    """
    if models.may_share_family:
        return
    known = read_model_families(data_dir)
    for place, one, role, other in _pairs(models):
        shared = sorted(model_family(one, known) & model_family(other, known))
        if shared:
            raise InputError(
                f"{one} {role} {other}, and both belong to the family {shared[0]!r}: "
                "models favour their own family",
                place=place,
                hint="choose another model for one of them, or set `models.may_share_family: true`",
            )


def _pairs(models: Models) -> Iterator[tuple[str, str, str, str]]:
    """Yield (place in the recipe, model, its role towards the other, other model)."""
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
