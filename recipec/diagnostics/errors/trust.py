"""What a model could do to the machine that loads it, and is refused: RC600 to RC629."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic

_OURS = "only architectures of the installed transformers are loaded, and nothing that a model brings is executed"


@diagnostic("RC600", "code-in-model")
def code_in_model(file: str, key: str) -> Finding:
    """A model's configuration asks for code of its own to be run.

    What it checks: `auto_map`, `trust_remote_code` and `custom_…` keys, at any depth of `config.json`,
    `tokenizer_config.json` and the other files that describe a model, before anything is loaded.
    Why it matters: such code runs with all rights of the person who started the recipe.
    Example: `"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}`.
    Use instead: a model whose architecture transformers has; there is no key in a recipe that allows the code.
    References: CVE-2026-4372 and CVE-2026-5241 (transformers), CVE-2025-66448 (vLLM).
    """
    return Finding(
        f"{file} asks for code to be run: `{key}`",
        why="it would run with all your rights; " + _OURS,
        help="use a model whose architecture transformers has",
    )


@diagnostic("RC601", "attention-named-by-model")
def kernel_in_model(file: str, key: str, value: str) -> Finding:
    """A model's configuration names the attention implementation that is to compute it.

    What it checks: `_attn_implementation`, `attn_implementation` and their like in `config.json`, at any depth.
    Why it matters: the value may name a repository, whose code would be fetched and run.
    Example: `"_attn_implementation_internal": "someone/kernel"`.
    Use instead: the same model without the key; the recipe's `attention` decides.
    References: CVE-2026-4372 (transformers).
    """
    return Finding(
        f"{file} names an attention implementation: `{key}: {value}`",
        why="the value may name code to be fetched and run; the recipe's `attention` decides, never the model",
        help="remove the key from the file, or use another model",
    )


@diagnostic("RC602", "unknown-architecture")
def unknown_architecture(file: str, named: str) -> Finding:
    """The architecture of a model is not one that the installed transformers has.

    What it checks: `model_type` and `architectures` in `config.json`.
    Why it matters: without the code there is nothing to load the weights into, and code from elsewhere is not run.
    Example: `"model_type": "my_llama"`.
    Use instead: a causal decoder of the installed transformers, or a newer transformers.
    """
    return Finding(
        f"{file} names `{named}`, which is no causal decoder of the installed transformers",
        why=_OURS,
        help="use another model, or a transformers release that has this one",
    )


@diagnostic("RC603", "pickled-weights")
def pickled_weights(folder: str, files: str) -> Finding:
    """A model or adapter has its weights as pickles only.

    What it checks: the names of the weight files before any is opened.
    Why it matters: opening a pickle can run anything; safetensors cannot.
    Example: a directory with `pytorch_model.bin` and no `model.safetensors`.
    Use instead: the safetensors revision of the model, or convert it where you trust it.
    """
    return Finding(
        f"{folder} has its weights as {files}, and no safetensors",
        why="opening a pickle can run anything",
        help="use a safetensors revision of the model, or convert it on a machine that you can lose",
    )


@diagnostic("RC604", "adapter-names-code")
def adapter_code(file: str, key: str) -> Finding:
    """An adapter's configuration asks for more than plain LoRA.

    What it checks: every key of `adapter_config.json` that is set, against those of plain LoRA.
    Why it matters: some keys name Python modules to import, others change the weights in ways that are not tested here.
    Example: `"megatron_core": "my.module"` with a `megatron_config`.
    Use instead: `adapter: merge` done elsewhere, and the merged model here; or a plain LoRA adapter.
    """
    return Finding(
        f"{file} sets `{key}`, which is not part of plain LoRA",
        why="some such keys import modules, the others are not supported",
        help="merge the adapter with the tool that made it, and start from the merged model",
    )
