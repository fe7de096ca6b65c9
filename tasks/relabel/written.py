"""Hard negatives that a model writes. Opt-in: every one passes the judges of the job before it is added.

In the comparison of the paper, written negatives improve a retriever less than mined ones. The report repeats
this, and measures two known weaknesses: written passages that answer the query, and a style by which a
classifier recognises them, so that a retriever could learn the source instead of the content.

References:
    Written hard negatives: arXiv 2504.21015.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from schemas.tables import content_id, derived_seed
from tasks.judges.relevance import Answer, MeteredModel
from tasks.models.model_families import model_family, read_model_families
from tasks.models.prompts import Prompt, fence
from tasks.models.protocol import Decoding, Model, Request
from tasks.models.structured import parse_answer
from tasks.relabel.decisions import RelabelledRow, Relabelling
from tasks.relabel.mining import PassagePool, add_kept
from tasks.relabel.same_text import match_key
from tasks.stats.shares import share_with_interval

if TYPE_CHECKING:
    import numpy as np

ID_PREFIX = "written"
WARNING = (
    "written negatives improved retrievers less than mined ones in the published comparison "
    "(arXiv 2504.21015): measure both before you train on them"
)
TOKENS_PER_PASSAGE = 300
SHOWN_POSITIVES = 3
"""Positives that the writer sees."""
LARGEST_AUROC = 0.75
"""Above this AUROC of the source check a warning is shown."""
SOURCE_SAMPLE = 1000
"""Passages of each source in the source check."""
FEWEST_FOR_CHECK = 20
"""Smallest number of passages of each source for which the source check is measured."""
FOLDS = 5
BUCKETS = 1 << 14

Relabel = Callable[[Sequence[CandidateSet]], Awaitable[Relabelling]]


class WrittenPassages(Answer):
    """Answer of the writer."""

    passages: list[str]


@dataclass(frozen=True)
class PartWriting:
    """The written negatives of one part, as counts."""

    counts: Mapping[str, int]
    """Passages: `asked`, `received`, `repeated`, `kept`, `answers_query`, `undecided`. Requests: `failed`."""
    ranks: Sequence[int] = ()
    """Rank of each kept passage for its query by BM25, among the passages of its part."""


@dataclass
class Writing:
    """Sums over the parts of a file."""

    counts: Counter[str] = field(default_factory=Counter)
    ranks: list[int] = field(default_factory=list)

    def add(self, counts: Mapping[str, int], ranks: Sequence[int]) -> None:
        """Add the figures of one part."""
        self.counts.update(counts)
        self.ranks += ranks

    def describe(self) -> dict[str, Any]:
        """Return the figures of the report."""
        judged = self.counts["kept"] + self.counts["answers_query"]
        share = share_with_interval(self.counts["answers_query"], judged)
        names = ("asked", "received", "repeated", "kept", "answers_query", "undecided", "failed")
        return {
            **{name: self.counts[name] for name in names},
            "generated_false_negatives": {
                "value": share and share.value,
                "low": share and share.low,
                "high": share and share.high,
                "n": judged,
            },
            "bm25_rank": {
                "median": statistics.median(self.ranks) if self.ranks else None,
                "n": len(self.ranks),
            },
            "source_check": {
                "value": None,
                "n": 0,
                "reason": "not measured: it reads the result, give --out",
            },
            "warning": WARNING,
        }


def check_writer(writer: str | None, judges: Sequence[str], data_dir: Path) -> str:
    """Return the writer, after a check that a judge of another family can judge its passages.

    Raises:
        InputError: If no writer is named, or no model judges, or all judges are related to the writer.
    """
    models = [judge for judge in judges if ":" in judge]
    if writer is None:
        raise InputError("--write needs a model that writes", hint="name it: --writer openai:…")
    if not models:
        raise InputError(
            "written negatives need a model as judge", hint="name one of another family: --judge openai:…"
        )
    known = read_model_families(data_dir)
    related = [judge for judge in models if model_family(judge, known) & model_family(writer, known)]
    if related:
        raise InputError(
            f"{related[0]} judges passages that {writer} writes, and both belong to the same family",
            hint="name a judge or a writer of another family: models favour their own texts",
        )
    return writer


class Writer(MeteredModel):
    """A model that writes hard negatives."""

    def __init__(self, model: Model, prompt: Prompt) -> None:
        super().__init__(model)
        self._prompt = prompt

    async def write(self, rows: Sequence[CandidateSet], count: int) -> list[list[str] | str]:
        """Return the passages written for each row, or the reason for none."""
        requests = [self._request(str(i), row, count) for i, row in enumerate(rows)]
        answers = await self.ask(requests, WrittenPassages, _read_passages)
        return [answers[str(i)] for i in range(len(rows))]

    def _request(self, tag: str, row: CandidateSet, count: int) -> Request:
        shown = "\n\n".join(fence(p.text, "positive") for p in row.positives[:SHOWN_POSITIVES])
        messages = self._prompt.fill(query=fence(row.query, "query"), positives=shown, count=str(count))
        decoding = Decoding(
            max_tokens=TOKENS_PER_PASSAGE * count, temperature=1.0, seed=derived_seed("write", row.query)
        )
        return Request(tag=tag, messages=messages, decoding=decoding, stage="relabel")


def _read_passages(text: str, cut_off: bool) -> list[str]:
    answer = parse_answer(text, WrittenPassages, cut_off=cut_off)
    return [passage.strip() for passage in answer.passages if passage.strip()]


async def add_written(
    relabelling: Relabelling, writer: Writer, count: int, relabel: Relabel
) -> tuple[Relabelling, PartWriting]:
    """Add written negatives that the judges keep to every row that has a positive.

    Args:
        relabelling: The judged rows of a part.
        writer: The model that writes.
        count: Passages to ask for, per row.
        relabel: Judges candidate sets, as for mined negatives.
    """
    rows = [row for row in relabelling.rows if row.after is not None and row.after.positives]
    answers = await writer.write([row.before for row in rows], count)
    counts = Counter(asked=count * len(rows), failed=sum(isinstance(a, str) for a in answers))
    candidates: list[tuple[RelabelledRow, CandidateSet]] = []
    for row, answer in zip(rows, answers, strict=True):
        if isinstance(answer, str):
            continue
        passages = _new_passages(row.before, list(islice(answer, count)))
        counts.update(received=min(count, len(answer)), repeated=min(count, len(answer)) - len(passages))
        if passages:
            candidates.append((row, _only(row.before, passages)))
    judged = await relabel([candidate for _, candidate in candidates])
    judge = "+".join(relabelling.judged_by)
    filled: dict[int, RelabelledRow] = {}
    for (row, _), decided in zip(candidates, judged.rows, strict=True):
        outcomes = [verdict.outcome for verdict in decided.verdicts]
        counts.update(
            kept=outcomes.count("kept"),
            answers_query=outcomes.count("promoted") + outcomes.count("removed"),
            undecided=outcomes.count("abstained"),
        )
        filled[id(row)], _ = add_kept(row, decided, judge, "written")
    done = replace(relabelling, rows=tuple(filled.get(id(row), row) for row in relabelling.rows))
    return done, PartWriting(dict(counts), _bm25_ranks(done))


def _new_passages(row: CandidateSet, texts: Sequence[str]) -> list[Passage]:
    """Return the written texts as passages, without those that repeat a passage of the row."""
    seen = {match_key(p.text) for p in (*row.positives, *row.negatives)}
    passages = []
    for text in texts:
        if (key := match_key(text)) not in seen:
            seen.add(key)
            passages.append(Passage(id=f"{ID_PREFIX}_{content_id('passage', row.query, text)}", text=text))
    return passages


def _only(row: CandidateSet, negatives: Sequence[Passage]) -> CandidateSet:
    identifier = content_id("set", row.id, "written", [passage.id for passage in negatives])
    return row.model_copy(update={"id": identifier, "negatives": tuple(negatives)})


def is_written(passage: Passage) -> bool:
    """Return whether a model wrote the passage in this or an earlier relabelling."""
    return passage.id.startswith(f"{ID_PREFIX}_")


def _bm25_ranks(relabelling: Relabelling) -> list[int]:
    """Return the rank of each written negative for its query, among all passages of the part."""
    rows = [row.after for row in relabelling.rows if row.after is not None]
    written = [(row.query, p) for row in rows for p in row.negatives if is_written(p)]
    if not written:
        return []
    pool = PassagePool(p for row in rows for p in (*row.positives, *row.negatives))
    ranks = (pool.rank(query, passage) for query, passage in written)
    return [rank for rank in ranks if rank is not None]


# --- the source check -------------------------------------------------------------------------------------


def check_source(rows: Iterable[CandidateSet]) -> dict[str, Any]:
    """Measure how well a classifier separates written negatives from the others.

    The classifier is a naive Bayes model of 3- to 5-grams of characters, cross-validated over queries.

    Args:
        rows: The rows of the result.

    Returns:
        `value`, the AUROC, or `None` with a `reason`; and `n`, the passages compared.
    """
    import numpy as np

    texts: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    for row in rows:
        fold = derived_seed("source check", row.query) % FOLDS
        for passage in row.negatives:
            same = texts[is_written(passage)]
            if len(same) < SOURCE_SAMPLE:
                same.append((fold, passage.text))
    fewest = min(len(texts[True]), len(texts[False]))
    if fewest < FEWEST_FOR_CHECK:
        reason = f"not measured: {fewest} passages of one source, {FEWEST_FOR_CHECK} are needed"
        return {"value": None, "n": len(texts[True]) + len(texts[False]), "reason": reason}
    samples = [(fold, text, label) for label in (True, False) for fold, text in texts[label]]
    features = np.stack([_count_ngrams(text) for _, text, _ in samples])
    labels = np.array([label for _, _, label in samples])
    folds = np.array([fold for fold, _, _ in samples])
    scores = np.zeros(len(samples))
    for fold in range(FOLDS):
        held, used = folds == fold, folds != fold
        if held.any() and labels[used].any() and not labels[used].all():
            weights = _log_odds(features[used], labels[used])
            scores[held] = features[held] @ weights / np.maximum(1, features[held].sum(axis=1))
    value = _auroc(scores, labels)
    return {"value": round(value, 4), "n": len(samples)}


def source_warning(check: Mapping[str, Any]) -> str | None:
    """Return a warning if the source of a passage is easy to predict."""
    value = check["value"]
    if value is None or value <= LARGEST_AUROC:
        return None
    return (
        f"a classifier tells written negatives from the others (AUROC {value:.2f}, above {LARGEST_AUROC}): "
        "a retriever may learn the style instead of the content"
    )


def _count_ngrams(text: str) -> np.ndarray[Any, Any]:
    import numpy as np

    counts = np.zeros(BUCKETS, dtype=np.float32)
    lowered = " ".join(text.lower().split())
    for size in (3, 4, 5):
        for start in range(len(lowered) - size + 1):
            counts[crc32(lowered[start : start + size].encode()) % BUCKETS] += 1
    return counts


def _log_odds(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    written, other = features[labels].sum(axis=0) + 1.0, features[~labels].sum(axis=0) + 1.0
    odds: np.ndarray[Any, Any] = np.log(written / written.sum()) - np.log(other / other.sum())
    return odds


def _auroc(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Return the share of pairs in which the written passage scores higher. Ties count half."""
    import numpy as np

    ordered = np.sort(scores[~labels])
    below = np.searchsorted(ordered, scores[labels], side="left")
    at_most = np.searchsorted(ordered, scores[labels], side="right")
    return float(((below + at_most) / 2).mean() / len(ordered))
