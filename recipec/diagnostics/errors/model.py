"""Models, adapters and tokenizers: RC720 to RC739, RC892."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic, file_span
from recipec.diagnostics.phrases import listed


@diagnostic("RC720", "impossible-shape")
def bad_shape(problem: str) -> Finding:
    """The sizes under `policy.scratch` do not fit each other, or this machine.

    Why it matters: attention heads divide the hidden size evenly, and rotary positions need an even head size.
    Example: `hidden_size: 100` with `heads: 3`.
    How to fix: make `hidden_size` a multiple of `heads`, and `heads` a multiple of `kv_heads`.
    """
    return Finding(f"policy.scratch cannot be built: {problem}", path="policy.scratch")


@diagnostic("RC721", "no-such-model")
def no_model(folder: str) -> Finding:
    """The directory under `from` or `policy.scratch.tokenizer` does not exist.

    Why it matters: the stage has no weights to start from.
    Example: `from: ./model` where the recipe is in `recipes/`.
    How to fix: give a path relative to the recipe file that contains it, `org/name` for the hub, or the name of a
    stage.
    """
    return Finding(f"there is no directory {folder}")


@diagnostic("RC722", "model-file-missing")
def missing_file(folder: str, missing: str, base: str = "", models: Sequence[str] = (), gguf: str = "") -> Finding:
    """A model directory lacks `config.json`, weights in safetensors, a shard of them, or a tokenizer.

    Why it matters: the model cannot be loaded without the file.
    Example: a directory without the second of two shards.
    How to fix: give the whole directory, as `save_pretrained` of the model and of the tokenizer wrote it.
    """
    remedy = (
        f"it is an adapter of PEFT without the model under it, `{base}`. Merge them: "
        f'`AutoPeftModelForCausalLM.from_pretrained("{folder}").merge_and_unload().save_pretrained(NEW)`, and save the '
        "tokenizer there, too"
    )
    if not base:
        inner = listed([f"{folder}/{name}" for name in models], 4)
        remedy = f"there is one in {inner}: write that folder" if models else ""
    if gguf and not models:
        remedy = f"{gguf} is for inference alone: use the folder with safetensors that it was made from"
    return Finding(f"{folder} has no {missing}", help=remedy)


@diagnostic("RC723", "damaged-weights")
def damaged_weights(folder: str, problem: str) -> Finding:
    """The weights cannot be read, do not fit `config.json`, or are in the directory in two forms.

    What it checks: each parameter has weights of its size, each tensor of the files has a place in the model, and there
    is either one file or an index with its shards.
    Why it matters: a parameter without weights would silently start from random numbers, and weights without a
    parameter would be left out.
    Example: a download that was cut short; `num_hidden_layers: 2` with the weights of four layers.
    How to fix: fetch or save the model again, or remove the weights of another model from the directory.
    """
    return Finding(f"the weights in {folder} cannot be used: {problem}")


@diagnostic("RC724", "no-end-of-text")
def no_eos(folder: str, named: str = "") -> Finding:
    """The tokenizer has no `eos_token`, or not the one that the recipe names.

    Why it matters: the policy could not learn to stop, and every sample would reach its maximal length.
    Example: a tokenizer that was made without special tokens; `eos_token: <|im_end|>` with the tokenizer of Llama.
    How to fix: set `eos_token` in `tokenizer_config.json`; name a token of the vocabulary in `policy.eos_token`.
    """
    if named:
        return Finding(f"`policy.eos_token` names `{named}`, which is not a token of {folder or 'the new tokenizer'}")
    return Finding(f"the tokenizer of {folder} has no eos_token")


@diagnostic("RC725", "vocabulary-mismatch")
def vocabulary_mismatch(what: str, tokens: int, rows: int) -> Finding:
    """The tokenizer has more tokens than the model's embedding, or a reference has another tokenizer than the policy.

    Why it matters: an id beyond the embedding fails in the middle of a run; an id that means another token gives wrong
    log-probabilities.
    Example: tokens were added to the tokenizer and the model was not resized.
    How to fix: take tokenizer and model from the same directory.
    """
    return Finding(f"{what}: the tokenizer has {tokens} tokens, the model {rows}")


@diagnostic("RC726", "hub-unreachable")
def no_hub(name: str, problem: str) -> Finding:
    """A model or data set of the hub is neither in the local cache nor can it be downloaded.

    Why it matters: the stage has no weights, or no rows, to start with.
    Example: a misspelt name, a gated model, no network.
    How to fix: check `org/name[@revision]` and log in for gated repositories; or download it and give its path.
    """
    offline = "outgoing traffic has been disabled" in problem
    apart = offline or "ConnectError" in problem or "Connection" in problem
    reason = "`HF_HUB_OFFLINE` is set" if offline else "there is no connection to the hub"
    fetch = f"run `hf download {name}` (data: `--repo-type dataset`) where there is one, or copy it and give its path"
    remedy = f"{reason}, and the cache does not have it: {fetch}" if apart else ""
    return Finding(f"`{name}` cannot be fetched from the hub: {problem}", help=remedy)


@diagnostic("RC728", "no-weights-in-package")
def no_weights(name: str, problem: str) -> Finding:
    """An installed package has no GGUF file or model directory, or has several.

    Why it matters: it is not clear which weights are meant.
    Example: `package:some-library` without a model inside.
    How to fix: name the file, as in `package:NAME/FILE.gguf`, or use another package.
    """
    return Finding(f"`package:{name}` cannot be used: {problem}")


@diagnostic("RC729", "no-chat-template")
def no_chat_template() -> Finding:
    """The data has chat messages, but the tokenizer has no chat template.

    Why it matters: the model has never seen a format that is made up here.
    Example: `messages` in the data, and a base model under `from`.
    How to fix: set `policy.chat_template` to one of the package, such as `recipec:chat/chatml`, or to a Jinja file; or
    write prompts as text.
    """
    return Finding("prompts are chat messages, by the data or by `chat: true`, but the tokenizer has no chat template")


@diagnostic("RC730", "chat-template-refuses")
def template_refuses(problem: str, *, broken: bool = False, line: int = 0) -> Finding:
    """The chat template fails on a conversation. It is rendered in a sandbox.

    What it checks: a template that fails on a plain question and its answer as well is itself wrong; otherwise the
    place is the row that it refuses.
    Why it matters: the conversation could not be trained in the format that the model is used with.
    Example: two `user` turns in a row with a template that requires alternation.
    How to fix: change the messages, or set `policy.chat_template` to another template.
    """
    remedy = "correct the template: `policy.chat_template`, or that of the tokenizer where the recipe gives none"
    path, remedy = ("policy.chat_template", remedy) if broken else ("", "")
    where = f", line {line}," if line and broken else ""
    return Finding(f"the chat template{where} cannot render the messages: {problem}", help=remedy, path=path)


@diagnostic("RC732", "adapter-mismatch")
def adapter_mismatch(problem: str, remedy: str = "", path: str = "") -> Finding:
    """An adapter does not fit the model or the recipe.

    What it checks: names and shapes of the adapter's weights, `policy.lora.targets` against the model's layers, and `r`
    and `alpha` against those of an adapter that is continued.
    Why it matters: weights that do not fit would silently be left out.
    Example: `adapter: continue` with `lora: {r: 16}` where the parent was trained with 8.
    How to fix: use names of linear layers as targets, and keep the values of an adapter that is continued; a new
    adapter can follow after `adapter: merge`.
    """
    return Finding(problem, help=remedy, path=path)


@diagnostic("RC733", "adapter-undecided")
def adapter_undecided(folder: str, *, found: bool) -> Finding:
    """The weights come with an adapter and the stage has no `adapter`, or the other way round.

    Why it matters: continuing an adapter and merging it give different models.
    Example: `from: ./policy` without `adapter`, where that directory was trained with LoRA.
    How to fix: set `adapter: continue` or `adapter: merge` where there is an adapter, and leave it out elsewhere.
    """
    if found:
        return Finding(f"{folder} has an adapter", help="set `adapter: continue` or `adapter: merge`")
    return Finding(f"the stage has `adapter`, but {folder} has no adapter", help="remove `adapter`")


@diagnostic("RC734", "quantized-weights")
def quantized(file: str, method: str) -> Finding:
    """The `config.json` of the weights has a `quantization_config`.

    Why it matters: quantized weights cannot be trained, and each method needs its own library.
    Example: a `-GPTQ` or `-AWQ` model.
    How to fix: use the unquantized model it was made from.
    """
    return Finding(f"{file} describes weights quantized by `{method}`")


@diagnostic("RC735", "unreadable-model-file")
def unreadable(file: str, problem: str, remedy: str = "") -> Finding:
    """A file that describes a model, an adapter or a tokenizer is not valid JSON, or transformers rejects it.

    The same holds for the GGUF file of an installed package.

    Why it matters: the model cannot be loaded without the file.
    Example: a `tokenizer.json` that was cut short.
    How to fix: fetch or save the model again, or install the package again.
    """
    return Finding(f"{file} cannot be read: {problem}", help=remedy)


@diagnostic("RC736", "beyond-positions")
def beyond_positions(tokens: int, positions: int) -> Finding:
    """A row of a forward pass has more tokens than `max_position_embeddings` of the model.

    Why it matters: the model has no positions beyond that number, or has never been trained on them.
    Example: rows of 1,500 tokens for a model with 1,024 positions.
    How to fix: limit `data.max_length` (with `overlong`) and `sampler.max_completion_length`, or use a model with more
    positions.
    """
    return Finding(f"a row has {tokens} tokens, but the model has {positions} positions")


@diagnostic("RC737", "merge-changes-model")
def merge_differs(folder: str, difference: float) -> Finding:
    """The model with an adapter merged into its weights has other logits than the model with the adapter.

    What it checks: the logits of a few tokens before and after each merge, to 1e-5 of their size or their rounding.
    Why it matters: the stage, or its reference, would start from a model that was never trained.
    Example: an adapter on layers that share weights in a way that `adapter: merge` does not know.
    How to fix: use `adapter: continue`, or train an adapter on other layers.
    """
    return Finding(
        f"after merging the adapter in {folder}, logits differ by {difference:.2g} from those with the adapter"
    )


@diagnostic("RC896", "load-changes-model")
def handed_over_differs(folder: str, difference: float) -> Finding:
    """A policy that a stage saved computes something else once it is loaded.

    What it checks: the logits of a few tokens, or the score of a reward model: noted where a stage saves its policy,
    and compared where a stage, a reference or an evaluation loads it: to 1e-3 of the largest, or 0.1 in bfloat16.
    Weights that are quantized, or spread over ranks, are not compared.
    Why it matters: the next stage would train another model than the one that was trained.
    Example: a library that saves a model under names that it does not load.
    How to fix: run the stage that made it again, with the versions of the libraries in `constraints.txt`.
    """
    return Finding(f"the policy in {folder} has other logits than when it was saved: they differ by {difference:.2g}")


@diagnostic("RC738", "model-not-savable")
def unsavable(name: str, problem: str) -> Finding:
    """The configuration, the tokenizer or the image processor of a model can be loaded, but not saved.

    What it checks: they are saved into a temporary folder before the first step.
    Why it matters: a trained model could not be saved at the end of the stage.
    Example: a chat template with half a surrogate pair.
    How to fix: correct the file that the message is about, in the directory of the model.
    """
    return Finding(f"the files that describe {name} could not be saved after training: {problem}")


@diagnostic("RC739", "turn-without-end")
def endless_turn(path: str, row: int, turn: int) -> Finding:
    """The chat template writes no stop token after an answer of the assistant.

    What it checks: each answer that is trained is followed by a stop token of the policy: the tokenizer's `eos_token`,
    an `eos_token_id` of the model, or a token of its own that the template writes there.
    Why it matters: the policy never learns to stop, and each of its answers reaches the maximal length.
    Example: `{{ message.content }}` with nothing but a line break after it; `<|im_end|>` with a tokenizer without that
    token.
    How to fix: set `policy.chat_template` to a template that writes `{{ eos_token }}` after each answer.
    """
    message = f"{path}, row {row}: the chat template writes no stop token after the assistant's answer (message {turn})"
    return Finding(message, file_span(path, row), help="write `{{ eos_token }}` there, in `policy.chat_template`")


@diagnostic("RC892", "no-control-tokens")
def control_tokens_missing(template: str, missing: Sequence[str]) -> Finding:
    """The tokenizer has no tokens of their own for marks of turns that a chat template of the package writes.

    Why it matters: the marks would be written as letters, of which no token ends a turn, in a form that neither the
    model nor a server knows.
    Example: `chat_template: recipec:chat/llama3` with the tokenizer of Mistral 7B.
    How to fix: use `recipec:chat/tulu` or `recipec:chat/zephyr`, which need no tokens, or a template of your own.
    """
    remedy = "`recipec:chat/tulu` and `recipec:chat/zephyr` need no tokens of their own"
    message = f"`{template}` writes {listed(missing, 4)}, which the tokenizer splits into letters"
    return Finding(message, help=remedy, path="policy.chat_template")
