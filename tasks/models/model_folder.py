"""Models in a folder of this machine: where they are, and what they are, whatever the folder is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from schemas.errors import InputError
from tasks.models.names import ModelName

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
BLOCKS, BLOCK = 64, 1 << 16
"""How much of a file of weights is read to tell it from others: so many blocks of so many bytes."""


def model_folder(model: ModelName) -> Path | None:
    """The folder that a model's name means; `None` for a name on the Hub. Raises `InputError` where there is
    no such folder, or no model in it."""
    folder = Path(model.name).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or model.name.startswith((".", "~")) or model.name.count("/") > 1:
            raise InputError(
                "there is no such model folder", place=str(model), hint="check the path in the recipe"
            )
        return None
    if not (folder / "config.json").is_file():
        raise InputError(
            "the folder holds no model: there is no config.json in it",
            place=str(model),
            hint="give the folder that `save_pretrained` or the Hub's client wrote",
        )
    return folder


def known_as(model: ModelName, engine: Mapping[str, object]) -> str:
    """The name that a model's answers are kept under: its own, or for a folder what is in it. How the engine
    is set up belongs to it, because precision and quantisation change answers. Several endpoints are said to
    serve the same model: which they are, and how many, does not count."""
    if len(model.endpoints) > 1:
        return f"{model.backend}:{model.name}@several"
    if model.backend != "vllm":
        return str(model)
    folder = model_folder(model)
    name = f"vllm:{fingerprint_folder(folder)}" if folder else str(model)
    return name + (json.dumps(engine, sort_keys=True) if engine else "")


def fingerprint_folder(folder: Path) -> str:
    """`sha256:…` of what decides a model's answers: configuration, tokenizer and chat template in full; of
    each file of weights its size and blocks at equal distances (training changes all of a tensor)."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        if path.suffix in WEIGHTS or path.suffix in (".json", ".jinja", ".model", ".txt"):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                for part in _parts(file, path.stat().st_size, whole=path.suffix not in WEIGHTS):
                    digest.update(part)
    return f"sha256:{digest.hexdigest()[:32]}"


def _parts(file: BinaryIO, size: int, whole: bool) -> Iterator[bytes]:
    if whole or size <= BLOCKS * BLOCK:
        yield file.read()
        return
    for i in range(BLOCKS):
        file.seek(i * (size - BLOCK) // (BLOCKS - 1))
        yield file.read(BLOCK)
