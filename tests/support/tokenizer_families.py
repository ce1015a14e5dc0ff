"""Small tokenizers of every family: how text is split, prefixed, normalised, and how markers eat white space."""

import json
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The answer is 42. What is 2+2=? It is 4, says Ann; 12 plus 30 is 42.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))",
    "user assistant system tool hello world hi there the quick brown fox <b>x</b> {json: [1, 2]}",
    "naïve café über straße 你好 世界 こんにちは 🙂 — “quotes” … end",
    "name arguments function city Paris weather sunny 21 degrees get_weather result ok",
] * 3
EOS, PAD, BOS, UNK = "</s>", "<pad>", "<s>", "<unk>"
_SPLIT = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _bpe(normalizer, pre, decoder, *, fallback=False, alphabet=()):
    inner = Tokenizer(models.BPE(byte_fallback=fallback, unk_token=None if not fallback else "<unk>"))
    if normalizer is not None:
        inner.normalizer = normalizer
    if pre is not None:
        inner.pre_tokenizer = pre
    inner.decoder = decoder
    first = [PAD, EOS, "<s>", "<unk>"]
    if fallback:
        first += [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=first, initial_alphabet=list(alphabet), show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    if fallback:  # byte pieces are ordinary tokens, not control tokens
        told = json.loads(inner.to_str())
        told["added_tokens"] = [one for one in told["added_tokens"] if not one["content"].startswith("<0x")]
        inner = Tokenizer.from_str(json.dumps(told))
    return inner


def _bytes(pre, normalizer=None):
    return _bpe(normalizer, pre, decoders.ByteLevel(), alphabet=pre_tokenizers.ByteLevel.alphabet())


def _pieces(scheme):
    pre = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=True)
    back = decoders.Metaspace(prepend_scheme=scheme, split=True)
    return _bpe(None, pre, decoders.Sequence([decoders.ByteFallback(), back]), fallback=True)


def _legacy():
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _bpe(normalizer, None, decoder, fallback=True)


def _spaces():
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _bpe(
        normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), decoder, fallback=True
    )


def _unigram(scheme, normalizer=None):
    inner = Tokenizer(models.Unigram())
    if normalizer is not None:
        inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=True)
    inner.decoder = decoders.Metaspace(prepend_scheme=scheme, split=True)
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=[PAD, EOS, "<s>", "<unk>"], unk_token=UNK, show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    return inner


def _words():
    inner = Tokenizer(models.WordPiece(unk_token=UNK))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=[PAD, EOS, "<s>", "<unk>"], show_progress=False)
    inner.train_from_iterator(CORPUS, trainer)
    return inner


def _begun():
    inner = _bytes(pre_tokenizers.ByteLevel(add_prefix_space=False))
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return inner


FAMILIES = {
    "gpt2": lambda: _bytes(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "gpt2_prefixed": lambda: _bytes(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "llama3": lambda: _bytes(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(_SPLIT), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        )
    ),
    "qwen": lambda: _bytes(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(False, use_regex=False),
            ]
        ),
        normalizers.NFC(),
    ),
    "begun": _begun,
    "spm_first": lambda: _pieces("first"),
    "spm_always": lambda: _pieces("always"),
    "spm_never": lambda: _pieces("never"),
    "spm_legacy": _legacy,
    "gemma": _spaces,
    "unigram_first": lambda: _unigram("first"),
    "unigram_always": lambda: _unigram("always"),
    "unigram_nfkc": lambda: _unigram("always", normalizers.NFKC()),
    "wordpiece": _words,
}
STRIPS = {"": {}, "rstrip": {"rstrip": True}, "lstrip": {"lstrip": True}, "both": {"lstrip": True, "rstrip": True}}
LOSSY = {"unigram_first", "unigram_always", "unigram_nfkc", "wordpiece"}
"""Families that cannot spell every text."""


@cache
def _base(family):
    return FAMILIES[family]().to_str()


def build(family, markers=(), strip="", plain=(), reserved=0):
    """Build a tokenizer with control tokens ``markers``, ``plain`` added tokens, and ``reserved`` unused ones."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_base(family)), eos_token=EOS, pad_token=PAD, bos_token=BOS
    )
    new = [AddedToken(m, special=True, normalized=False, **STRIPS[strip]) for m in markers if m not in (EOS, "<s>")]
    new += [AddedToken(f"<|reserved_{i}|>", special=True, normalized=False) for i in range(reserved)]
    made.add_tokens(new, special_tokens=True)
    made.add_tokens([AddedToken(one, special=False, normalized=False) for one in plain])
    return made
