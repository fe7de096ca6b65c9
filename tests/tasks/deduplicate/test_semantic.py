"""Paraphrases are dropped if requested, and guards apply to them as well."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.deduplicate.file import deduplicate_file
from tasks.deduplicate.semantic import SemanticOptions
from tasks.models.embeddings import STATIC
from tasks.models.settings import ModelSettings
from tasks.near_duplicates.units import Unit, find_duplicates
from tests.conftest import DATA
from tests.servers.openai_server import OpenAIServer

SUNDAY = "My boss wants me to work on Sunday. How can I say no?"
PARAPHRASE = "How can I say no to my boss, who wants me to work on Sunday?"
BREAD = "Explain how to bake bread without yeast."
TOPICS = ("boss", "bread", "cheese")


def topic(text: str) -> list[float]:
    """A server's vectors, by which the texts of one topic are alike."""
    return [1.0 + 0.01 * len(text) * (word in text) if word in text else 0.01 for word in TOPICS]


@pytest.fixture
def by_topic(tmp_path: Path):
    with OpenAIServer(embeddings=topic) as server:
        name = server.model()
        yield SemanticOptions(
            name, 95.0, ModelSettings(DATA, tmp_path, tmp_path / "c", free=frozenset({name}))
        )


def reasons_by_id(found) -> dict[str, tuple[str, str]]:
    return {d.unit.id: (d.because_of.id, d.reason) for d in found.dropped}


def test_a_paraphrase_is_dropped_with_its_reason(by_topic):
    units = [Unit("a", SUNDAY, order=(2,)), Unit("b", PARAPHRASE, order=(1,)), Unit("c", BREAD)]
    assert not find_duplicates(units).dropped
    found = find_duplicates(units, second_search=by_topic)
    assert reasons_by_id(found) == {"a": ("b", "semantic_duplicate")}
    assert 95 <= found.dropped[0].similarity <= 100


def test_reason_of_a_dropped_paraphrase_names_a_kept_text(by_topic):
    units = [
        Unit("best", PARAPHRASE, order=(1,)),
        Unit("second", SUNDAY, order=(2,)),
        Unit("third", SUNDAY + "!", order=(3,)),
    ]
    found = find_duplicates(units, second_search=by_topic)
    assert [u.id for u in found.kept] == ["best"]
    assert reasons_by_id(found) == dict.fromkeys(("second", "third"), ("best", "semantic_duplicate"))


def test_units_of_different_guards_never_merge_by_meaning(by_topic):
    units = [Unit("a", SUNDAY, guard="man"), Unit("b", PARAPHRASE, guard="woman")]
    assert not find_duplicates(units, second_search=by_topic).dropped


def test_earlier_texts_are_compared_by_meaning_and_all_stay(by_topic):
    earlier = [Unit("old", SUNDAY, source="x"), Unit("older", PARAPHRASE, source="x")]
    new = Unit("new", "No work for the boss on a Sunday", order=(-1,))
    found = find_duplicates([new], earlier=earlier, second_search=by_topic)
    assert {d.reason for d in found.dropped} == {"overlaps:x"}


def test_the_embedded_vectors_find_paraphrases_in_a_file(tmp_path):
    pytest.importorskip("wordllama", reason="the extra `semantic` is not installed")
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": [SUNDAY, PARAPHRASE, BREAD]}), path)
    settings = ModelSettings(DATA, tmp_path, tmp_path / "c")
    result = deduplicate_file(
        path, text="text", out=tmp_path / "out", second_search=SemanticOptions(STATIC, 95.0, settings)
    )
    assert result["reasons"] == {"semantic_duplicate": 1}
    (dropped,) = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert (dropped["id"], dropped["because_of"], dropped["reason"]) == ("b", "a", "semantic_duplicate")
    assert 95 <= dropped["similarity"] <= 100
