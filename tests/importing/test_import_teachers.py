"""Teachers of other tools: which of their settings become a loss, which become credit, and which are refused."""

from pathlib import Path

import pytest

from recipec.importing.run import import_recipe

VERL = (Path(__file__).parent / "files" / "verl_distillation.sh").read_text()
GRADIENT = VERL.replace("forward_kl_topk", "k1").replace("use_policy_gradient=False", "use_policy_gradient=True")


@pytest.mark.parametrize(
    ("text", "said", "unsaid"),
    [
        (VERL, ["type: gkd", "top_k: 64"], ["advantage:", "epsilon:", "dual_clip:"]),
        (GRADIENT, ["type: reverse_kl", "clamp: 10.0", "epsilon: 0.2"], ["group_relative", "gkd"]),
        (
            GRADIENT.replace("use_task_rewards=False", "use_task_rewards=True"),
            ["type: reverse_kl", "weight: 1.0", "type: group_relative"],
            ["gkd"],
        ),
        (VERL.replace("rewards=False", "rewards=True"), ["type: group_relative"], ["gkd", "org/large"]),
        (VERL.replace("forward_kl_topk", "k3"), ["type: group_relative"], ["reverse_kl", "org/large"]),
        (VERL.replace("teacher_models.teacher_model", "teacher_models.maths"), ["group_relative"], ["org/large"]),
        (VERL.replace("distillation.enabled=True", "distillation.enabled=False"), ["group_relative"], ["org/large"]),
    ],
)
def test_verl_teachers_are_a_loss_or_credit(text: str, said: list[str], unsaid: list[str]) -> None:
    """What is refused leaves the recipe without a teacher, and no setting of another objective stays."""
    recipe = "\n".join(line.partition("#")[0] for line in import_recipe("a.sh", text).text.splitlines())
    assert all(words in recipe for words in said), recipe
    assert not any(words in recipe for words in unsaid), recipe
