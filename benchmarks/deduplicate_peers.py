"""Find candidate pairs with another library, in a separate process.

    python benchmarks/deduplicate_peers.py NAME texts.json

Prints one JSON object with the candidate pairs (by index) and the CPU seconds, or the reason for skipping.
The script imports nothing of this project, so that a peer can have its own environment.
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
    """Find pairs with MinHash LSH over sets of words (128 permutations), as in datasketch's manual."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.6, num_perm=128)
    pairs: Pairs = set()
    sets = [[word.encode() for word in set(text.split())] for text in texts]
    for i, hashed in enumerate(MinHash.generator(sets, num_perm=128)):
        pairs |= {(j, i) for j in index.query(hashed)}
        index.insert(i, hashed)
    return pairs


def rensa(texts: Sequence[str]) -> Pairs:
    """Find pairs with rensa's MinHash digests over sets of words, in 25 bands of 5 values."""
    from rensa import RMinHash

    digests = RMinHash.digests_from_token_sets([list(set(t.split())) for t in texts], num_perm=125, seed=1)
    return _pairs_sharing_a_band(tuple(digest[b * 5 : b * 5 + 5]) for digest in digests for b in range(25))


def semhash(texts: Sequence[str]) -> Pairs:
    """Find nearest neighbours of static embeddings. The model comes from the Hub."""
    from semhash import SemHash

    index = SemHash.from_records(records=[f"{i}\t{text}" for i, text in enumerate(texts)])
    result = index.self_deduplicate(threshold=0.9)
    return {
        (min(a, b), max(a, b))
        for record in result.filtered
        for a in [int(record.record.split("\t")[0])]
        for b in [int(other.split("\t")[0]) for other, _ in record.duplicates]
    }


def _pairs_sharing_a_band(keys: Iterable[tuple[int, ...]], bands: int = 25) -> Pairs:
    """Return pairs of texts that share the key of a band. Keys are ordered by text, then by band."""
    members: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    pairs: Pairs = set()
    for index, key in enumerate(keys):
        text, band = divmod(index, bands)
        bucket = members[band, key]
        pairs |= {(other, text) for other in bucket}
        bucket.append(text)
    return pairs


PEERS: dict[str, Callable[[Sequence[str]], Pairs]] = {
    "datasketch": datasketch,
    "rensa": rensa,
    "semhash": semhash,
}


def main(name: str, path: Path) -> dict[str, object]:
    """Run a peer on the texts of a JSON file."""
    texts = json.loads(path.read_text(encoding="utf-8"))
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
