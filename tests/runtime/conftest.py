"""A policy that can only read and write text, and the context of a stage."""

from pathlib import Path

import pytest

from recipec.runtime.context import StageContext
from recipec.runtime.data.text import Text
from recipec.runtime.model import scratch


class TextPolicy:
    """The tokenizer's side of a policy."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.text = Text(tokenizer)
        self.eos_id = tokenizer.eos_token_id
        self.image_encoder = None
        self.image_store = None
        self.max_positions = 1 << 31
        self.stop_ids = (self.eos_id,)
        self.control_ids = frozenset(tokenizer.all_special_ids)

    def encode(self, text, after=()):
        """Encode text."""
        return self.text.encode(text, after)

    def render(self, messages, *, generation, variables=None):
        """Encode a conversation."""
        return self.text.render(messages, generation=generation, variables=variables)

    def decode(self, ids):
        """Decode, control tokens left in."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)


@pytest.fixture(params=["characters", "bytes_"])
def any_policy(request):
    """Each of the scratch tokenizers as a policy."""
    return TextPolicy(getattr(scratch, request.param)())


@pytest.fixture
def text_policy():
    """A policy whose tokens are bytes."""
    return TextPolicy(scratch.bytes_())


@pytest.fixture
def text_context(tmp_path: Path):
    """The context of a stage in a temporary folder."""
    return StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="s")


@pytest.fixture(scope="module")
def kept_context(tmp_path_factory):
    """Such a context for all tests of a file."""
    root = tmp_path_factory.mktemp("kept")
    return StageContext(root=root, cache=root / "cache", seed=0, stage="s")


@pytest.fixture(scope="module")
def kept_policy():
    """A policy whose tokens are bytes for all tests of a file, which leave it as it is."""
    return TextPolicy(scratch.bytes_())
