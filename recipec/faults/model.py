"""What can go wrong with a model and its tokenizer: RC720 to RC739."""

from __future__ import annotations

from recipec.diagnostics import Finding, fault


@fault("RC720", "impossible-shape")
def bad_shape(problem: str) -> Finding:
    """The sizes of a new model do not fit each other.

    What it checks: `policy.scratch` when the model is built.
    Why it matters: heads share the width evenly, and rotary positions come in pairs.
    Example: `hidden_size: 100` with `heads: 3`.
    Use instead: a width that is a multiple of the heads, and heads that are a multiple of kv_heads.
    """
    return Finding(f"policy.scratch cannot be built: {problem}", help="change the sizes so that they divide")


@fault("RC729", "no-chat-template")
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


@fault("RC730", "chat-template-refuses")
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
