"""What other libraries find, each in a process of its own, by the same Python or another one.

    python benchmarks/deduplicate_peers.py NAME texts.json

prints one JSON object: the candidate pairs (by place) and the CPU seconds they took, or why it was skipped.
Needs nothing of this project, so that a peer can live in an environment of its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Pairs = set[tuple[int, int]]


def datasketch(texts: Sequence[str]) -> Pairs:
    """MinHash LSH over sets of words, as its manual shows it (128 permutations)."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.6, num_perm=128)
    found: Pairs = set()
    sets = [[word.encode() for word in set(text.split())] for text in texts]
    for i, hashed in enumerate(MinHash.generator(sets, num_perm=128)):
        found |= {(j, i) for j in index.query(hashed)}
        index.insert(i, hashed)
    return found


def rensa(texts: Sequence[str]) -> Pairs:
    """MinHash digests over sets of words in Rust, 25 bands of 5 values."""
    from rensa import RMinHash

    digests = RMinHash.digests_from_token_sets([list(set(t.split())) for t in texts], num_perm=125, seed=1)
    return _sharing(tuple(digest[b * 5 : b * 5 + 5]) for digest in digests for b in range(25))


def semhash(texts: Sequence[str]) -> Pairs:
    """Nearest neighbours of static embeddings; its model comes from the Hub."""
    from semhash import SemHash

    index = SemHash.from_records(records=[f"{i}\t{text}" for i, text in enumerate(texts)])
    result = index.self_deduplicate(threshold=0.9)
    return {
        (min(a, b), max(a, b))
        for record in result.filtered
        for a in [int(record.record.split("\t")[0])]
        for b in [int(other.split("\t")[0]) for other, _ in record.duplicates]
    }


def _sharing(keys: Iterable[tuple[int, ...]], bands: int = 25) -> Pairs:
    """Pairs that share the key of a band; keys come text by text, band by band."""
    members: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    found: Pairs = set()
    for place, key in enumerate(keys):
        text, band = divmod(place, bands)
        there = members[band, key]
        found |= {(other, text) for other in there}
        there.append(text)
    return found


PEERS: dict[str, Callable[[Sequence[str]], Pairs]] = {
    "datasketch": datasketch,
    "rensa": rensa,
    "semhash": semhash,
}


def main(name: str, place: Path) -> dict[str, object]:
    texts = json.loads(place.read_text(encoding="utf-8"))
    try:
        __import__(name)
        started = time.process_time()
        pairs = sorted(PEERS[name](texts))
    except ImportError as error:
        return {"skipped": f"not installed ({error.name})"}
    except Exception as error:
        return {"skipped": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
    return {"cpu_seconds": time.process_time() - started, "pairs": pairs}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
