"""Look-ups for programs and people, and edits that are applied."""

import json

import pytest

from recipec.diagnostics.fixes import fixed
from recipec.diagnostics.model import Fix, Span

TYPOS = """\
recipec: 1
name: small
stages:
  learn:
    kind: sft
    from: scratch
    policy: {type: causal_lm, scratch: {architecture: llama, hidden_size: 16, layers: 1, heads: 2}}
    data: {pth: a.jsonl}
    optimizer: {type: adamv, learning_rat: 1.0e-3}   # a comment
    budget: {steps: 2, rows_per_step: 2}
"""


@pytest.mark.parametrize(
    ("command", "key", "value"),
    [
        ("ls components", "name", "loss/clipped"),
        ("ls codes", "name", "RC204"),
        ("show loss/clipped", "type", "clipped"),
        ("show tiny/quickstart", "recipe", "tiny/quickstart"),
        ("explain RC204", "code", "RC204"),
        ("explain unmet-requirement", "code", "RC204"),
    ],
)
def test_look_ups_as_json(folder, command, key, value):
    """What `ls`, `show` and `explain` print is there as data, too; a code is found by its name."""
    found = json.loads(folder.call(*command.split(), "--format", "json").out)
    assert value in [one[key] for one in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("show clipped", "`loss/clipped`"),
        ("show loss/cliped", "`loss/clipped`"),
        ("explain group-of-on", "`group-of-one`"),
        ("explain callback-elsewher", "`callback-elsewhere`"),
        ("ls component", "`components`"),
    ],
)
def test_unknown_names_have_a_hint(folder, command, hint):
    """A name that does not exist exits 2 with the one that was probably meant."""
    found = folder.call(*command.split())
    assert found.code == 2
    assert f"did you mean {hint}" in found.err


def test_fixes_are_applied(folder):
    """Misspelt keys and types are renamed in the file, comments stay, and the file is then valid."""
    folder.write(r__yaml=TYPOS)
    assert folder.call("validate", "r.yaml").code == 1
    found = folder.call("validate", "r.yaml", "--fix")
    assert found.code == 0, found.err
    text = (folder.path / "r.yaml").read_text()
    assert text == TYPOS.replace("pth:", "path:").replace("adamv", "adamw").replace("learning_rat:", "learning_rate:")
    folder.write(r__yaml=TYPOS.replace("heads: 2", "heads: two"))
    assert folder.call("validate", "r.yaml", "--fix").code == 1


def test_keys_of_other_tools_are_renamed_in_place(folder):
    """A name of another tool, and one that a fragment gives as well, is renamed; what needs a choice is counted."""
    recipe = (
        "name: demo: two\nstages:\n  go:\n    kind: rl\n    from: org/model\n    extends: [recipec:algorithms/grpo]\n"
        "    data: {path: a.jsonl}\n    sampler: {num_generation: 8, response_length: 256}\n"
        "    reward: {right: {type: exact_match}}\n    loss: {BETA}\n    optimizer: {learning_rate: 1.0e-6}\n"
        "    budget: {steps: 9, prompts_per_step: 8}\n"
    )
    folder.write(r__yaml=recipe.replace("BETA", "beta: 0.0"))
    assert folder.call("validate", "r.yaml", "--fix").code == 0
    text = (folder.path / "r.yaml").read_text()
    assert text.startswith("recipec: 1\nname: demo-two\nstages:")
    assert "sampler: {num_generations: 8, max_completion_length: 256}" in text
    folder.write(r__yaml=recipe.replace("BETA", "kl_coef: 0.01"))
    found = folder.call("validate", "r.yaml", "--fix")
    assert found.code == 1
    assert "r.yaml: 1 to decide, for which there is no single edit" in found.err


def test_edits_of_one_line_do_not_shift_each_other():
    """Edits are applied from the right; one that overlaps another is left for the next round."""
    spans = [Span("r", 1, 1, 1, 2), Span("r", 1, 4, 1, 6), Span("r", 1, 5, 1, 7)]
    assert fixed("a: bcd", [Fix("", span, "xyz") for span in spans]) == ("xyz: xyzd", 2)


def test_code_scanning_gets_help_and_edits(folder):
    """SARIF names the version, describes each rule, and brings the edits."""
    folder.write(r__yaml=TYPOS)
    (run,) = json.loads(folder.call("validate", "r.yaml", "--format", "sarif").out)["runs"]
    driver = run["tool"]["driver"]
    assert driver["version"]
    assert all(rule["shortDescription"]["text"] and rule["help"]["text"] for rule in driver["rules"])
    edit = run["results"][0]["fixes"][0]["artifactChanges"][0]["replacements"][0]
    assert edit["insertedContent"]["text"] == "path"
    assert "r.yaml:8:12: error RC130" in folder.call("validate", "r.yaml", "--format", "concise").out
