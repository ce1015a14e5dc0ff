"""Entities that resemble a text, by a sentence-embedding model made here."""

import pytest
import torch
from support.knowledge_graphs import skin
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from recipec.diagnostics.model import RecipeError
from recipec.runtime.knowledge.embedding_search import Embedder

WORDS = ["[PAD]", "[UNK]", "psoriasis", "eczema", "itching", "itchy", "scaling", "flaky", "allergy", "skin"]


@pytest.fixture
def model(tmp_path):
    """A model whose layers do nothing: a text is the mean of its words, and `itchy` is near `itching`."""
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    shape = {"hidden_size": 16, "num_hidden_layers": 0, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertModel(BertConfig(vocab_size=len(WORDS), **shape))
    vectors = bert.embeddings.word_embeddings.weight
    with torch.no_grad():
        vectors.normal_()
        vectors[WORDS.index("itchy")] = vectors[WORDS.index("itching")] + 0.01
        bert.embeddings.position_embeddings.weight.zero_()
        bert.embeddings.token_type_embeddings.weight.zero_()
    folder = tmp_path / "embedder"
    bert.save_pretrained(folder)
    tokens = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")  # noqa: S106
    tokens.save_pretrained(folder)
    return folder


def test_padding_changes_nothing(model):
    """An embedding is of length 1, and the same beside a longer text."""
    embedder = Embedder(model, "./embedder", model.parent)
    alone, beside = embedder.embed(["itching"])[0], embedder.embed(["itching", "skin scaling eczema"])[0]

    torch.testing.assert_close(alone, beside)
    assert float(alone.norm()) == pytest.approx(1.0, abs=1e-6)


def test_likeness_stands_in_for_labels(tmp_path, model):
    """What no label names is found by likeness, after what labels name, and only above the bound."""
    assert model.exists()
    graph = skin(tmp_path, embedder="./embedder", min_similarity=0.9)
    (itching,) = graph.link("itchy", 1)

    assert (itching.entity, itching.start, itching.end) == ("itching", 0, 5)
    assert itching.score > 0.99
    assert next(link.entity for link in graph.link("eczema itchy itchy itchy", 2)) == "eczema"
    assert graph.link("flaky", 1) == []
    assert graph.link("itchy") == []


def test_labels_are_embedded_once(tmp_path, model, monkeypatch):
    """Embeddings of labels are kept with the cache; a damaged file is made anew; another text finds the same."""
    assert model.exists()
    first = skin(tmp_path, embedder="./embedder", min_similarity=0.9).link("itchy", 2)
    (kept,) = (tmp_path / "cache" / "embeddings").iterdir()
    asked = []
    real = Embedder.embed
    monkeypatch.setattr(Embedder, "embed", lambda self, texts: asked.append(len(texts)) or real(self, texts))
    assert skin(tmp_path, embedder="./embedder", min_similarity=0.9).link("itchy", 2) == first
    assert asked == [1]
    kept.write_bytes(b"")
    assert skin(tmp_path, embedder="./embedder", min_similarity=0.9).link("itchy", 2) == first
    assert max(asked) > 1


def test_no_model(tmp_path):
    """A folder that is no model is refused."""
    with pytest.raises(RecipeError) as caught:
        skin(tmp_path, embedder="./nothing")
    assert caught.value.diagnostics[0].code == "RC880"
