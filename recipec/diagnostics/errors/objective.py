"""What an objective asks of a model and of its data: RC890 to RC899, RC950 to RC959."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic, file_span


@diagnostic("RC890", "head-not-linear")
def no_linear_head(name: str, kind: str) -> Finding:
    """The output layer of the model cannot be computed in float32.

    Why it matters: `policy.head_dtype: float32` multiplies hidden states by the weight of the output layer in float32;
    a layer of another kind has no such weight.
    Example: a model with another output layer than a `torch.nn.Linear`.
    How to fix: drop `policy.head_dtype`, or set `policy.dtype: float32`.
    """
    return Finding(f"the output layer of {name} is a {kind}, which `policy.head_dtype` cannot compute in float32")


@diagnostic("RC891", "no-label")
def no_label(row: int, file: str = "") -> Finding:
    """A row has no label, and the loss needs one.

    Why it matters: `kto` raises the probability of answers that are labelled good and lowers that of the others.
    Example: a row `{"prompt": "2+2=", "completion": "4"}` without `"label": true`.
    How to fix: give every row a column `label` with true or false (1 and 0 are read, too, and the words as text), or
    name the column: `data.columns: {label: good}`.
    """
    place = f"{file}, row {row}" if file else f"row {row} of the data"
    return Finding(f"{place} has no label that is true or false, and `kto` needs one", file_span(file, row))


@diagnostic("RC894", "noise-in-training")
def noise_in_training(name: str, difference: float) -> Finding:
    """A model computes other logits in training than in sampling, though its dropout is off.

    What it checks: the logits of 8 tokens in both modes, when the model is loaded.
    Why it matters: the log-probabilities that an update compares with those of the sampler, of the old policy or of the
    reference would differ at random; ratios would not be 1 where nothing was learnt.
    Example: PhiMoE, which draws the experts of a token at random in training.
    How to fix: use a model of another family.
    """
    return Finding(f"{name} computes other logits in training than in sampling: they differ by {difference:.2g}")


@diagnostic("RC950", "no-margin")
def no_margin(row: int, file: str = "") -> Finding:
    """A pair has no margin, and the loss needs one.

    Why it matters: with `margin: column`, `bradley_terry` asks of each pair by how much its preferred answer is better.
    Example: a row `{"prompt": "2+2=", "chosen": "4", "rejected": "5"}` without `"margin": 1.0`.
    How to fix: give every row a column `margin` with a number, or name the column: `data.columns: {margin: gap}`; or
    drop `loss.margin`.
    """
    place = f"{file}, row {row}" if file else f"row {row} of the data"
    return Finding(f"{place} has no margin that is a number, and `margin: column` needs one", file_span(file, row))


@diagnostic("RC951", "no-scalar-head")
def no_scalar_head(name: str, kind: str) -> Finding:
    """The model has no form that gives one score for a text.

    Why it matters: reward models and critics put a linear layer with one output on the decoder; the library has no such
    model of this family, or builds it in another way.
    Example: `kind: rm` from a model of a family without an `AutoModelForSequenceClassification`.
    How to fix: start from a model of another family, such as Llama, Qwen, Mistral, Gemma or GPT-2.
    """
    return Finding(f"{name} is a {kind}, for which there is no model with a scalar head")


@diagnostic("RC952", "not-a-reward-model")
def not_a_reward_model(name: str, problem: str) -> Finding:
    """The weights are not those of a reward model.

    Why it matters: a reward model has one output, and its configuration says so: a classifier with several outputs, or
    a model that predicts tokens, has no score.
    Example: `reward: {judge: {type: model, from: org/chat-model}}`.
    How to fix: name a model saved by `AutoModelForSequenceClassification` with `num_labels=1`, or a stage of kind `rm`.
    """
    return Finding(f"{name} is not a reward model: {problem}")
