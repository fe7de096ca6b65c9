"""Compare mining of hard negatives by meaning with `sentence_transformers.util.mine_hard_negatives`.

    python benchmarks/relabel_mining.py --peer-python ENV/bin/python [--passages 1000] [--pairs FILE] [--json]

Both use the same weights (all-MiniLM-L6-v2), the same corpus and the same rule: the 10 nearest passages that
score at least 5 % below the positive (TopK-PercPos with 95 %), wherever they rank. The corpus are judged
passages of a file as `relabel_judges.py` reads it, at most 25 of a query. Every query with a passage of the
top grade has one positive. The peer needs an environment of its own with `sentence-transformers` and
`datasets`. Each side runs in a process of its own. Its seconds, CPU seconds and peak memory include the start
and the loading of the weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT.parent / "shared" / "data" / "retrieval" / "dl19_pairs.jsonl"
NEGATIVES, MARGIN, OF_QUERY = 10, 0.05, 25

Mined = dict[str, list[str]]
"""Texts of the mined passages by query, best first."""


def write_inputs(pairs: Path, passages: int, folder: Path) -> dict[str, int]:
    """Write `corpus.jsonl` and `rows.jsonl`: queries with one positive each, and passages of the file."""
    by_query: dict[str, list[dict[str, Any]]] = {}
    with pairs.open(encoding="utf-8") as stream:
        for line in stream:
            pair = json.loads(line)
            by_query.setdefault(pair["query"], []).append(pair)
    top = max(pair["human_grade"] for found in by_query.values() for pair in found)
    corpus: dict[str, None] = {}
    rows = []
    for query, found in by_query.items():
        best = next((pair["text"] for pair in found if pair["human_grade"] == top), None)
        if best is None or len(corpus) >= passages:
            continue
        texts = list(dict.fromkeys([best, *(pair["text"] for pair in found)]))[:OF_QUERY]
        corpus |= dict.fromkeys(texts[: passages - len(corpus)])
        rows.append({"query": query, "pos": [best], "neg": []})
    _write(folder / "rows.jsonl", rows)
    _write(folder / "corpus.jsonl", [{"_id": str(i), "text": text} for i, text in enumerate(corpus)])
    return {"queries": len(rows), "passages": len(corpus)}


def _write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def mine_here(folder: Path) -> Mined:
    """Mine with the command's own function."""
    sys.path.insert(0, str(PROJECT))
    from tasks.models import ModelSettings
    from tasks.relabel.file import relabel_file

    settings = ModelSettings(
        data_dir=PROJECT / "data", run_dir=folder / "run", cache_path=folder / "answers.sqlite"
    )
    relabel_file(
        folder / "rows.jsonl",
        settings=settings,
        strategy="score",
        judges=("embedding",),
        relative_margin=MARGIN,
        corpus=folder / "corpus.jsonl",
        mine=NEGATIVES,
        mine_by="embedding",
        out=folder / "mined.jsonl",
    )
    return {row["query"]: row["neg"] for row in _read(folder / "mined.jsonl")}


def mine_with_peer(folder: Path, weights: str) -> Mined:
    """Mine with the peer. This runs in the peer's environment."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    rows = _read(folder / "rows.jsonl")
    asked = {"query": [row["query"] for row in rows], "positive": [row["pos"][0] for row in rows]}
    corpus = [passage["text"] for passage in _read(folder / "corpus.jsonl")]
    found = mine_hard_negatives(
        Dataset.from_dict(asked),
        SentenceTransformer(weights, device="cpu"),
        corpus=corpus,
        range_max=len(corpus),  # with a margin, the default is the 30 nearest passages
        relative_margin=MARGIN,
        num_negatives=NEGATIVES,
        sampling_strategy="top",
        output_format="triplet",
        verbose=False,
    )
    mined: Mined = {row["query"]: [] for row in rows}
    for line in found:
        mined[line["query"]].append(line["negative"])
    return mined


def run_child(side: str, folder: str, weights: str) -> None:
    """Mine in the process that `measure` starts, and print what it found and used."""
    started = time.perf_counter()
    mined = mine_here(Path(folder)) if side == "here" else mine_with_peer(Path(folder), weights)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "mined": mined,
                "seconds": time.perf_counter() - started,
                "cpu_s": used.ru_utime + used.ru_stime,
                "peak_mb": round(used.ru_maxrss / 1024),
            }
        )
    )


def measure(python: str, side: str, folder: Path, weights: Path) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [python, str(Path(__file__).resolve()), "--child", side, str(folder), str(weights)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(mine: Mined, other: Mined) -> dict[str, Any]:
    """Return how many passages both sides found, over all queries."""
    shared = sum(len(set(mine[query]) & set(other[query])) for query in mine)
    return {
        "mined_here": sum(map(len, mine.values())),
        "mined_by_peer": sum(map(len, other.values())),
        "mined_by_both": shared,
        "queries_with_equal_lists": sum(mine[query] == other[query] for query in mine),
    }


def run(pairs: Path, passages: int, peer_python: str) -> dict[str, Any]:
    """Run both sides and compare them."""
    sys.path.insert(0, str(PROJECT))
    from tasks.models.sentence_encoder import check_encoder

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = write_inputs(pairs, passages, folder)
        here = measure(sys.executable, "here", folder, check_encoder())
        peer = measure(peer_python, "peer", folder, check_encoder())
    agreement = compare(here.pop("mined"), peer.pop("mined"))
    return {**sizes, "here": here, "peer": peer, **agreement}


def main() -> None:
    """Run the comparison and print it."""
    if sys.argv[1:2] == ["--child"]:
        run_child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", required=True, help="interpreter with sentence-transformers")
    parser.add_argument("--pairs", type=Path, default=DATA, help="file of judged pairs")
    parser.add_argument("--passages", type=int, default=1000, help="passages of the corpus")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if not options.pairs.is_file():
        sys.exit(f"{options.pairs} does not exist. Name a file with --pairs.")
    result = run(options.pairs, options.passages, options.peer_python)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['queries']} queries, {result['passages']} passages")
    for side in ("here", "peer"):
        line = result[side]
        print(f"{side}: {line['seconds']:.1f} s, {line['cpu_s']:.1f} CPU s, peak {line['peak_mb']} MB")
    print(
        f"mined here {result['mined_here']}, by the peer {result['mined_by_peer']}, by both "
        f"{result['mined_by_both']}; equal lists for {result['queries_with_equal_lists']} queries"
    )


if __name__ == "__main__":
    main()
