"""A policy that can only read and write text, and a stage's setting around it."""

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
        self.stop_ids = (self.eos_id,)
        self.control_ids = frozenset(tokenizer.all_special_ids)

    def encode(self, text):
        """Encode text."""
        return self.text.encode(text)

    def render(self, messages, *, generation):
        """Encode a conversation."""
        return self.text.render(messages, generation=generation)

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
def text_setting(tmp_path: Path, text_policy):
    """A setting in a temporary folder with that policy."""
    context = StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="s")
    context.policy = text_policy
    return context


@pytest.fixture(scope="module")
def kept_setting(tmp_path_factory):
    """A setting with such a policy for all tests of a file."""
    root = tmp_path_factory.mktemp("kept")
    context = StageContext(root=root, cache=root / "cache", seed=0, stage="s")
    context.policy = TextPolicy(scratch.bytes_())
    return context
