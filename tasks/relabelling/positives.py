"""All positives of a file, by hash: 8 bytes each, so that "is this negative a positive elsewhere?" has an
answer for files that do not fit in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

from schemas.candidates import CandidateSet
from tasks.text.normalize import normalise_for_match


class KnownPositives:
    """A container of normalised texts. Two texts share a hash once in 2^64."""

    def __init__(self, sets: Iterable[CandidateSet]) -> None:
        import numpy as np

        hashes = array("Q")
        for row in sets:
            hashes.extend(_hash(normalise_for_match(passage.text)) for passage in row.positives)
        self._hashes = np.unique(np.frombuffer(hashes, dtype=np.uint64)) if hashes else np.empty(0, np.uint64)

    def __contains__(self, text: object) -> bool:
        import numpy as np

        wanted = np.uint64(_hash(str(text)))
        at = int(np.searchsorted(self._hashes, wanted))
        return at < len(self._hashes) and bool(self._hashes[at] == wanted)


def _hash(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )
