"""A policy that learns a tool call by imitation and calls the tool in rollouts: whole runs."""

import json

from support.small_recipes import rows

RECIPE = """\
recipec: 1
name: small
use: [./tools.py]
stages:
  imitate:
    kind: sft
    from: scratch
    policy:
      type: causal_lm
      chat_template: chat.j2
      scratch: {architecture: llama, hidden_size: 32, layers: 2, heads: 2, intermediate_size: 64, max_positions: 512}
    data: {path: a.jsonl}
    optimizer: {learning_rate: 1.0e-2}
    budget: {steps: 60, rows_per_step: 1}
  explore:
    kind: rl
    from: imitate
    data: {path: b.jsonl}
    environment: {type: tool_use, functions: [twice], max_turns: 2}
    sampler: {num_generations: 2, max_completion_length: 80, temperature: 0.3}
    reward:
      said: {type: regex_format, pattern: ".*"}
      drift: {type: kl_penalty}
    advantage: {group: {type: group_relative}}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, prompts_per_step: 1}
"""
CHAT = (
    "{% for t in tools or [] %}{{ t.function.name }}.{% endfor %}{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>"
    '{"name":"{{ c.function.name }}","arguments":{{ c.function.arguments | tojson }}}</tool_call>{% endfor %}'
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
TOOLS = 'def twice(a: int):\n    """Double a number."""\n    return f"<{2 * a}>"\n'
CALL = {"type": "function", "function": {"name": "twice", "arguments": {"a": 3}}}
ASKED = {"role": "user", "content": "3"}


def test_calls_are_learnt_made_and_not_trained_on(folder):
    """Calls in training data teach the form; in rollouts they run, and the loss is on the policy's tokens alone."""
    schema = {"type": "function", "function": {"name": "twice", "parameters": {"type": "object", "properties": {}}}}
    learnt = {"messages": [ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}], "tools": [schema]}
    files = {"tools__py": TOOLS, "chat__j2": CHAT, "a__jsonl": rows(learnt), "b__jsonl": rows({"prompt": [ASKED]})}
    ended = folder.run(RECIPE, "--use", "tools.py", **files)
    assert ended.code == 0, ended.err
    lines = (folder.path / "runs/small/stages/explore/samples/step-000001.jsonl").read_text().splitlines()
    made = [json.loads(line) for line in lines]
    called = [row for row in made if "tool:<6>assistant:" in row.get("transcript", "")]
    assert called, made
    written = len("tool:<6>") + len("assistant:")
    assert all(written <= row["trained"].count(0) <= written + 1 for row in called)  # with the end token of the result
    assert all("<6>" not in row["text"] for row in called)


def test_tools_that_no_file_has(folder):
    """A missing function is refused when the recipe is checked, and tools without `use` name the key to add."""
    wrong = RECIPE.replace("[twice]", "[thrice]")
    folder.write(r__yaml=wrong, tools__py=TOOLS, chat__j2=CHAT)
    assert "error[RC622]: there is no tool `thrice`" in folder.call("validate", "r.yaml").err
    folder.write(r__yaml=RECIPE.replace("use: [./tools.py]\n", ""))
    assert "use: [./environment.py]" in folder.call("validate", "r.yaml").err
