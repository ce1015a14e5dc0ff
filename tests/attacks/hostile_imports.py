"""Attacks by files of other tools, read by `recipec import`: nothing is run, expanded without end or printed raw."""

from __future__ import annotations

import os
from pathlib import Path

from attacks.attack import DONE, Attack, Scene

TRL = "model_name_or_path: org/model\nlearning_rate: 1.0e-6\nper_device_train_batch_size: 2\nnum_generations: 4\n"
AXOLOTL = (
    "base_model: org/model\nsequence_len: 512\nadapter: lora\nlora_r: 8\nmicro_batch_size: 2\nlearning_rate: 1e-5\n"
)
VERL = "actor_rollout_ref:\n  model: {path: org/model}\n  rollout: {n: 4}\nalgorithm: {adv_estimator: grpo}\n"
PRIME = "[model]\nname = 'org/model'\n[trainer.optim]\nlr = 1e-5\n[orchestrator]\nbatch_size = 8\n"
SHELL = "python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=4 trainer.nnodes=1"
VALUE = "hunter2-of-the-environment"


def imports(name: str, text: str | bytes):
    """Import a file, with a secret in the environment, and read the recipe that was made, which may be incomplete."""

    def act(scene: Scene) -> str:
        scene.write(name, text)
        os.environ["ATTACK_SECRET"] = VALUE
        try:
            ended = scene.call("import", name, "out.yaml")
        finally:
            del os.environ["ATTACK_SECRET"]
        made = Path("out.yaml").read_text(encoding="utf-8") if Path("out.yaml").exists() else ""
        scene.printed.append(made.replace("\n", " "))
        assert VALUE not in made + "".join(scene.printed)
        if made:
            again = scene.call("validate", "out.yaml")
            assert not again.startswith("crash"), again
        return ended if ended.startswith("crash") or not made else DONE

    return act


def trl(more: str):
    """Import a TRL file with more lines."""
    return imports("grpo.yaml", TRL + more)


def axolotl(more: str):
    """Import an axolotl file with more lines."""
    return imports("axolotl.yml", AXOLOTL + more)


def verl(more: str):
    """Import a verl file with more lines."""
    return imports("ppo_trainer.yaml", VERL + more)


def prime(more: str):
    """Import a prime-rl file with more lines."""
    return imports("rl.toml", PRIME + more)


def script(text: str):
    """Import a shell script."""
    return imports("run.sh", "#!/bin/bash\n" + text)


def pipe(scene: Scene) -> str:
    """Import something that never ends."""
    os.mkfifo("grpo.yaml")
    return scene.call("import", "grpo.yaml")


def link(scene: Scene) -> str:
    """Import a link to a device."""
    Path("grpo.yaml").symlink_to("/dev/zero")
    return scene.call("import", "grpo.yaml")


def named(name: str):
    """Import a file whose own name moves a cursor; it must not be printed raw."""

    def act(scene: Scene) -> str:
        scene.write(name, TRL)
        ended = scene.call("import", name)
        return ended if ended.startswith("crash") or "To be written by hand" not in scene.last else DONE

    return act


def kept(scene: Scene) -> str:
    """A file that exists is not overwritten."""
    scene.write("grpo.yaml", TRL)
    scene.write("out.yaml", "mine")
    scene.call("import", "grpo.yaml", "out.yaml")
    assert Path("out.yaml").read_text() == "mine"
    return DONE


_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
_GROWS = "A=xxxxxxxx\n" + "A=$A$A$A$A\n" * 40
_REFERS = "".join(f"v{i}: ${{v{i + 1}}}${{v{i + 1}}}\n" for i in range(60)) + "v60: x\n"

ATTACKS = [
    Attack("import-trl-laughs", "CVE-2019-11253", "RC910", trl(_LAUGHS)),
    Attack("import-trl-tag", "CVE-2017-18342", DONE, trl("seed: !!python/object/apply:os.system ['touch CANARY']\n")),
    Attack("import-trl-deep", "CWE-674", "RC910", trl("x: " + "[" * 50_000 + "\n")),
    Attack(
        "import-trl-many-keys",
        "CWE-407",
        "RC911",
        trl("".join(f"k{i}: {i}\n" for i in range(8_000))),
        seconds=20,
        slow=True,
    ),
    Attack("import-trl-reward", "CWE-829", DONE, trl("reward_funcs: [os.system, CANARY]\n")),
    Attack("import-trl-remote-code", "CVE-2023-6730", DONE, trl("trust_remote_code: true\n")),
    Attack("import-trl-escape-key", "CWE-150", DONE, trl('"\\e]0;x\\a\\e[2J": 1\n')),
    Attack("import-trl-escape-value", "CWE-150", DONE, trl('output_dir: "\\e[2J\\r\\nforged: line"\n')),
    Attack("import-trl-bidi", "CVE-2021-42574", DONE, trl('run_name: "\\u202ereversed"\n')),
    Attack("import-trl-path", "CWE-22", DONE, trl("dataset_name: ../../../../etc/passwd\n")),
    Attack("import-trl-giant-number", "CWE-1284", DONE, trl("max_steps: " + "9" * 6_000 + "\n")),
    Attack(
        "import-axolotl-tag", "CVE-2020-14343", DONE, axolotl("seed: !!python/object/new:os.system ['touch CANARY']\n")
    ),
    Attack(
        "import-axolotl-jinja", "CVE-2024-34359", DONE, axolotl("chat_template_jinja: \"{{ ''.__class__.__mro__ }}\"\n")
    ),
    Attack(
        "import-axolotl-plugin",
        "CWE-829",
        DONE,
        axolotl("plugins: [os.system]\ndatasets: [{path: evil.py, type: x}]\n"),
    ),
    Attack("import-axolotl-merge-key", "CWE-400", DONE, axolotl("a: &a {x: 1}\nb: {<<: [*a, *a, *a]}\n")),
    Attack("import-verl-env", "CWE-526", DONE, verl("data: {train_files: '${oc.env:ATTACK_SECRET}'}\n")),
    Attack(
        "import-verl-env-default",
        "CWE-526",
        DONE,
        verl("data: {train_files: '${oc.env:NONE,${oc.env:ATTACK_SECRET}}'}\n"),
    ),
    Attack("import-verl-env-old", "CWE-526", DONE, verl("trainer2: {x: '${env:ATTACK_SECRET}'}\n")),
    Attack(
        "import-verl-resolver", "CWE-94", DONE, verl("trainer2: {x: '${oc.decode:${oc.create:a}}', y: '${eval:1+1}'}\n")
    ),
    Attack(
        "import-verl-target", "CVE-2021-25646", DONE, verl("hook: {_target_: os.system, _args_: ['touch CANARY']}\n")
    ),
    Attack("import-verl-reward", "CWE-829", DONE, verl("custom_reward_function: {path: /etc/passwd, name: x}\n")),
    Attack("import-verl-cycle", "CWE-674", DONE, verl("p: ${q}\nq: ${p}\nr: ${r}\n")),
    Attack("import-verl-grows", "CVE-2003-1564", "RC911", verl(_REFERS)),
    Attack("import-prime-deep", "CWE-674", "RC910", prime("x = " + "[" * 20_000 + "\n")),
    Attack(
        "import-prime-many",
        "CWE-407",
        "RC911",
        prime("".join(f"[t{i}]\nx = 1\n" for i in range(5_000))),
        seconds=20,
        slow=True,
    ),
    Attack("import-prime-escape", "CWE-150", DONE, prime('[wandb]\n"\\u001b[2J" = "\\u001b]0;x\\u0007"\n')),
    Attack("import-prime-digits", "CVE-2020-10735", "RC910", prime("seed = " + "9" * 100_000 + "\n")),
    Attack(
        "import-shell-substitution",
        "CVE-2014-6271",
        DONE,
        script(f"X=$(touch CANARY)\n{SHELL} trainer.x=$(touch CANARY)\n"),
    ),
    Attack("import-shell-backticks", "CWE-78", DONE, script(f"{SHELL} trainer.x=`touch CANARY`\n")),
    Attack(
        "import-shell-process", "CWE-78", DONE, script(f"{SHELL} trainer.x=<(touch CANARY) trainer.y=>(touch CANARY)\n")
    ),
    Attack("import-shell-arithmetic", "CWE-78", DONE, script(f"X=$((a[$(touch CANARY)]))\n{SHELL} trainer.x=$X\n")),
    Attack("import-shell-eval", "CWE-95", DONE, script(f"eval 'touch CANARY'; . ./x.sh; source x.sh\n{SHELL}\n")),
    Attack("import-shell-trap", "CWE-78", DONE, script(f"trap 'touch CANARY' EXIT DEBUG\n{SHELL}\n")),
    Attack("import-shell-document", "CWE-78", DONE, script(f"cat <<EOF\n$(touch CANARY)\nEOF\n{SHELL}\n")),
    Attack("import-shell-function", "CVE-2014-7169", DONE, script("env x='() { :;}; touch CANARY' " + SHELL + "\n")),
    Attack(
        "import-shell-environment",
        "CWE-526",
        DONE,
        script(f"{SHELL} trainer.x=$ATTACK_SECRET trainer.y=${{ATTACK_SECRET:-z}}\n"),
    ),
    Attack("import-shell-grows", "CVE-2003-1564", DONE, script(f"{_GROWS}{SHELL} trainer.x=$A\n")),
    Attack(
        "import-shell-braces",
        "CWE-400",
        DONE,
        script(f"{SHELL} trainer.x={{1..1000000000}} trainer.y={'{a,b}' * 40}\n"),
    ),
    Attack("import-shell-nested", "CWE-674", DONE, script(f"{SHELL} trainer.x={'${A:-' * 3_000}{'}' * 3_000}\n")),
    Attack("import-shell-substitutions", "CWE-674", DONE, script(f"{SHELL} trainer.x={'$(' * 3_000}{')' * 3_000}\n")),
    Attack("import-shell-open-quote", "CWE-1333", DONE, script(f"{SHELL} trainer.x='" + "a\\\n" * 50_000)),
    Attack("import-shell-many-words", "CWE-407", DONE, script(f"{SHELL} " + "a=1 " * 100_000), seconds=20, slow=True),
    Attack("import-shell-escape", "CWE-150", DONE, script(f"{SHELL} trainer.x=$'\\e[2J'\n")),
    Attack("import-nul", "CWE-158", "RC104", imports("grpo.yaml", TRL.encode() + b"\0\0")),
    Attack("import-not-utf8", "CWE-20", "RC102", imports("grpo.yaml", b"\xff\xfe" + TRL.encode("utf-16-le"))),
    Attack("import-pipe", "CWE-400", "RC101", pipe),
    Attack("import-device", "CWE-400", "RC101", link),
    Attack("import-name-escape", "CWE-150", DONE, named("a\x1b[2Jb.yaml")),
    Attack("import-name-line", "CWE-117", DONE, named("a\r\nerror: forged.yaml")),
    Attack("import-overwrites", "CWE-73", DONE, kept),
]
