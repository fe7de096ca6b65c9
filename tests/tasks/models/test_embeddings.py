"""Embeddings are unit vectors in the order of the texts, from a server or from this process."""

from pathlib import Path

import numpy as np
import pytest

from schemas.errors import BudgetError, InputError, ModelError
from tasks.models import sentence_encoder
from tasks.models.budget import spent_in
from tasks.models.embeddings import BATCH, STATIC, embed_texts
from tasks.models.settings import ModelSettings
from tests.conftest import DATA
from tests.servers.openai_server import OpenAIServer


def settings(tmp_path: Path, **changes: object) -> ModelSettings:
    return ModelSettings(DATA, tmp_path / "run", tmp_path / "cache.sqlite", **changes)


def by_length(text: str) -> list[float]:
    return [3.0 * len(text), 4.0 * len(text)] if text[0] != "x" else [float(len(text)), 0.0]


def test_a_server_is_asked_in_batches_and_its_vectors_are_put_in_order(tmp_path):
    texts = [f"{'x' if i % 3 else 'y'} text {i}" for i in range(BATCH * 2 + 5)]
    with OpenAIServer(embeddings=by_length) as server:
        name = server.model()
        vectors = embed_texts(name, texts, settings(tmp_path, free=frozenset({name})))
        assert sorted(len(r.body["input"]) for r in server.other_requests) == [5, BATCH, BATCH]
    assert vectors.shape == (len(texts), 2)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors, [[1, 0] if t[0] == "x" else [0.6, 0.8] for t in texts])


def test_embeddings_stay_within_the_budget(tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {test-model: {input: 1000.0, output: 0, source: here, as_of: '2026-01-01'}}")
    with OpenAIServer(embeddings=by_length) as server:
        name = server.model()
        with pytest.raises(BudgetError, match="is unknown"):
            embed_texts(name, ["a b"], settings(tmp_path))
        with pytest.raises(BudgetError, match="may cost"):
            embed_texts(name, ["a b"] * 99, settings(tmp_path, budget_usd=0.01, prices_path=prices))
        assert not server.other_requests
        embed_texts(name, ["a b"] * 9, settings(tmp_path, budget_usd=1, prices_path=prices))
    assert spent_in(tmp_path / "run") == pytest.approx(18 * 1000 / 1e6, abs=0.011)


def test_a_server_without_embeddings_is_reported(tmp_path):
    with OpenAIServer("hello") as server:
        name = server.model()
        with pytest.raises(ModelError, match="no embeddings"):
            embed_texts(name, ["a"], settings(tmp_path, free=frozenset({name})))


def test_models_that_give_no_embeddings_are_refused(tmp_path):
    with pytest.raises(InputError, match="gives no embeddings"):
        embed_texts("replay:answers.parquet", ["a"], settings(tmp_path))


def test_the_embedded_vectors_rank_similar_texts_first(tmp_path):
    pytest.importorskip("wordllama", reason="the extra `semantic` is not installed")
    texts = [
        "how can i say no to my boss, who wants me to work on sunday?",
        "my boss wants me to work on sunday. how can i say no?",
        "explain how to bake bread without yeast.",
    ]
    vectors = embed_texts(STATIC, texts, settings(tmp_path))
    assert vectors[0] @ vectors[1] > 0.95
    assert vectors[0] @ vectors[2] < 0.5
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.skipif(sentence_encoder.find_encoder() is None, reason="the extra `semantic` is not installed")
class TestSentenceEncoder:
    def test_cosines_are_those_of_the_published_model(self, tmp_path):
        texts = ["That is a happy person", "That is a happy dog", "That is a very happy person"]
        vectors = embed_texts(sentence_encoder.NAME, [*texts, "Today is a sunny day"], settings(tmp_path))
        assert (vectors @ vectors[0]).round(3).tolist() == pytest.approx([1, 0.695, 0.943, 0.257], abs=0.001)

    def test_a_vector_depends_on_its_text_alone(self):
        texts = ["short", "a longer text about a salary " * 9, "", "short"]
        together = sentence_encoder.encode_sentences(texts)
        alone = np.concatenate([sentence_encoder.encode_sentences([text]) for text in texts])
        assert (together == alone).all()
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)

    def test_a_text_longer_than_the_model_reads_is_cut(self):
        words = "word " * 2000
        (vector,) = sentence_encoder.encode_sentences([words])
        assert (vector == sentence_encoder.encode_sentences([words + "another end"])[0]).all()

    def test_no_text_gives_no_vector(self):
        assert sentence_encoder.encode_sentences([]).shape == (0, sentence_encoder.DIMENSIONS)


def test_missing_encoder_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(sentence_encoder, "find_encoder", lambda: None)
    with pytest.raises(InputError, match="not installed") as error:
        embed_texts(sentence_encoder.NAME, ["a"], settings(tmp_path))
    assert "semantic" in str(error.value.hint)
