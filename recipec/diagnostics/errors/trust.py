"""Models that could run code on the machine that loads them: RC600 to RC604."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC600", "code-in-model")
def code_in_model(file: str, key: str, value: str = "") -> Finding:
    """A file of a model has a key that makes the loader run code.

    What it checks: before anything is loaded, at any depth of `config.json`, `tokenizer_config.json` and the other
    files that describe a model: `auto_map`, `trust_remote_code`, keys such as `custom_generate`, and attention
    implementations such as `_attn_implementation`, which may name a repository with code.
    Why it matters: the code would run with all your permissions. Only architectures of the installed transformers are
    loaded, and the recipe's `attention` decides on the implementation.
    Example: `"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}`, `"_attn_implementation_internal":
    "someone/kernel"`.
    How to fix: use a model that transformers implements, or remove the key; nothing in a recipe can allow the code.
    References: CVE-2026-4372 and CVE-2026-5241 (transformers), CVE-2025-66448 (vLLM).
    """
    return Finding(f"{file} can make the loader run code: `{key}{f': {value}' if value else ''}`")


@diagnostic("RC602", "unknown-architecture")
def unknown_architecture(file: str, named: str, *, encoder: bool = False) -> Finding:
    """The `model_type` or `architectures` in a `config.json` is not a causal decoder of the installed transformers.

    What it checks: before the weights are loaded, the type of the model, and `is_decoder` of types that are encoders
    without it, such as BERT and RoBERTa; of every model that is loaded, that no token changes the logits before it.
    Why it matters: no code is available to load the weights into, and code that comes with a model is never run. A
    model with tokens that see those after them cannot write an answer.
    Example: `"model_type": "my_llama"`; `"model_type": "bert"` without `"is_decoder": true`.
    How to fix: use another model, or a transformers release that has this one.
    """
    if encoder:
        remedy = "start from a causal language model, such as Llama, Qwen or GPT-2"
        return Finding(f"{file} names `{named}`, an encoder: its tokens see those after them", help=remedy)
    return Finding(f"{file} names `{named}`, which is not a causal decoder of the installed transformers")


@diagnostic("RC603", "pickled-weights")
def pickled_weights(folder: str, files: str) -> Finding:
    """The weights of a model or adapter are available as pickle files only.

    Why it matters: opening a pickle can run any code; safetensors cannot.
    Example: a directory with `pytorch_model.bin` and no `model.safetensors`.
    How to fix: use a safetensors revision of the model, or convert it on a machine where you can risk that.
    """
    return Finding(f"{folder} has its weights as {files}, and no safetensors")


@diagnostic("RC604", "adapter-names-code")
def adapter_code(file: str, key: str) -> Finding:
    """The `adapter_config.json` of an adapter sets a key that plain LoRA does not have.

    Why it matters: some of these keys import Python modules, the others change the weights in unsupported ways.
    Example: `"megatron_core": "my.module"` with a `megatron_config`; `"init_lora_weights": "pissa"`, with which the
    adapter belongs to other weights than those of the model.
    How to fix: merge the adapter with the tool that made it and start from the merged model, or use a plain LoRA
    adapter.
    """
    return Finding(f"{file} sets `{key}`, which is not part of plain LoRA")
