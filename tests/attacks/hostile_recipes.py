"""Attacks by the text of a recipe, read by `validate`, `compile` and `plan`."""

from __future__ import annotations

import os
from pathlib import Path

from attacks.attack import DONE, Attack, Scene
from support.small_recipes import SFT


def reads(text: str, **files: str):
    """Read a recipe by the three commands; the outcome is that of `validate`."""

    def act(scene: Scene) -> str:
        scene.write("pyproject.toml", "")
        scene.write("r.yaml", text)
        for name, content in files.items():
            scene.write(name.replace("__", "."), content)
        return all_three(scene)

    return act


def all_three(scene: Scene, *more: str) -> str:
    """Validate, compile and plan `r.yaml`; a crash of any of them is the outcome."""
    found = [scene.call(command, "r.yaml", *more) for command in ("validate", "compile", "plan")]
    for form in ("json", "github"):
        scene.call("validate", "r.yaml", "--format", form, *more)
    return next((one for one in found if one.startswith("crash")), found[0])


def holds(value: str, more: str = ""):
    """Give the name a value, and add variables."""
    return reads(SFT.replace("name: small", f"name: {value}") + (f"vars:\n{more}" if more else ""))


def changed(old: str, new: str, **files: str):
    """Change a recipe that is valid."""
    assert old in SFT
    return reads(SFT.replace(old, new), **files)


def linked(scene: Scene) -> str:
    """Extend a file of the project that is a link to one outside."""
    scene.write("secret.txt", "password: hunter2\n")
    scene.folder.joinpath("inner").mkdir()
    os.chdir("inner")
    scene.write("inner/pyproject.toml", "")
    Path("link.yaml").symlink_to("../secret.txt")
    scene.write("inner/r.yaml", SFT + "extends: [link.yaml]\n")
    ended = all_three(scene)
    assert "hunter2" not in "".join(scene.printed)
    return ended


def code_outside(scene: Scene) -> str:
    """Name code of another folder: it is shown, and nothing of it runs."""
    scene.write("else/rewards.py", "open('CANARY', 'w')\ndef score(completions):\n    return 0\n")
    return reads(SFT + "use: [../code-outside/else/rewards.py]\n")(scene)


def device(target: str):
    """Let the recipe be, or extend, something that never ends."""

    def act(scene: Scene) -> str:
        scene.write("pyproject.toml", "")
        if target == "fifo":
            os.mkfifo("r.yaml")
        else:
            Path("r.yaml").symlink_to(target)
        return all_three(scene)

    return act


def runs_as(name: str):
    """Run a recipe of this name; nothing may be written above `runs/`."""

    def act(scene: Scene) -> str:
        scene.write("a.jsonl", '{"prompt": "a", "completion": "b"}\n' * 4)
        scene.write("r.yaml", SFT.replace("name: small", f"name: {name}"))
        return scene.call("run", "r.yaml")

    return act


_LAUGHS = "  a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
_TENFOLD = [f"${{vars.v{i}}}" * 10 for i in range(11)]
_GROWS = "vars:\n  v0: aaaaaaaaaaaaaaaaaaaa\n" + "".join(f'  v{i}: "{ten}"\n' for i, ten in enumerate(_TENFOLD, 1))
_CHAIN = "vars:\n" + "".join(f'  v{i}: "${{vars.v{i + 1}}}"\n' for i in range(3000)) + "  v3000: x\n"

ATTACKS = [
    Attack("yaml-billion-laughs", "CVE-2019-11253", "RC103", holds("small", _LAUGHS)),
    Attack("yaml-anchor-of-itself", "CWE-674", "RC116", holds("&a [*a]")),
    Attack(
        "yaml-many-anchors", "CWE-400", "RC103", holds("small", "".join(f"  k{i}: &a{i} {{}}\n" for i in range(30_000)))
    ),
    Attack("yaml-python-tag", "CVE-2017-18342", "RC108", holds("!!python/object/apply:os.system [touch CANARY]")),
    Attack("yaml-python-name", "CVE-2020-1747", "RC108", holds("!!python/name:os.system")),
    Attack("yaml-new-object", "CVE-2020-14343", "RC108", holds("!!python/object/new:type {args: [z, [], {}]}")),
    Attack("yaml-custom-tag", "CWE-502", "RC108", holds("!include /etc/passwd")),
    Attack("yaml-merge-key", "CWE-915", "RC110", reads(SFT + "<<: {name: other}\n")),
    Attack("yaml-deep-flow", "CVE-2022-38750", "RC103", holds("[" * 20_000 + "]" * 20_000)),
    Attack("yaml-deep-block", "CWE-674", "RC103", holds("small", "".join(" " * i + "a:\n" for i in range(2, 1200)))),
    Attack("yaml-huge-text", "CWE-770", "RC103", reads(SFT + "# " + "x" * (2 << 20) + "\n")),
    Attack("yaml-huge-integer", "CVE-2020-10735", "RC117", holds("9" * 5000)),
    Attack("yaml-huge-float", "CWE-681", "RC117", changed("1.0e-3", "1e999999999")),
    Attack("yaml-sexagesimal", "CWE-704", "RC132", changed("steps: 2", "steps: 1:30:00")),
    Attack("yaml-negative-count", "CWE-1284", "RC132", changed("steps: 2", "steps: -9223372036854775809")),
    Attack("yaml-nan-rate", "CWE-20", "RC132", changed("1.0e-3", ".nan")),
    Attack("yaml-two-documents", "CWE-436", "RC111", reads(SFT + "---\nrecipec: 1\nname: hidden\n")),
    Attack("yaml-twice-a-key", "CWE-694", "RC107", reads(SFT + "name: other\n")),
    Attack("yaml-escape-sequence", "CWE-150", "RC104", reads(SFT.replace("small", "sm\x1b]0;owned\x07all"))),
    Attack("yaml-escaped-escape", "CWE-150", "RC132", reads(SFT.replace("name: small", 'name: "\\e[2J\\e]0;x\\a"'))),
    Attack("yaml-bidi", "CVE-2021-42574", "RC104", reads(SFT.replace("small", "sm\u202eall"))),
    Attack("yaml-bidi-comment", "CVE-2021-42574", "RC104", reads(SFT + "# \u2066 hidden \u2069\n")),
    Attack("yaml-zero-width-key", "CWE-1007", "RC130", reads(SFT + "na\u200bme: x\n")),
    Attack("yaml-homoglyph-key", "CWE-1007", "RC130", reads(SFT + "n\u0430me: x\n")),
    Attack("yaml-nul", "CWE-158", "RC104", reads(SFT + "x: a\0b\n")),
    Attack("yaml-line-separator", "CWE-93", "RC104", reads(SFT + "# a\u2028stages: {}\n")),
    Attack("yaml-lone-surrogate", "CWE-176", "RC102", reads(SFT + "x: \ud800\n")),
    Attack("yaml-escaped-surrogate", "CWE-176", "RC105", reads(SFT.replace("name: small", 'name: "\\ud800"'))),
    Attack(
        "yaml-forged-line", "CWE-117", "RC152", reads(SFT.replace("from: scratch", r'from: "org/m\e]0;x\a\r\nforged"'))
    ),
    Attack("reference-growth", "CVE-2003-1564", "RC103", reads(SFT + _GROWS)),
    Attack("reference-chain", "CWE-674", "RC103", reads(SFT + _CHAIN)),
    Attack("reference-circle", "CWE-835", "RC128", reads(SFT + 'vars: {a: "${vars.b}", b: "${vars.a}"}\n')),
    Attack("reference-environment", "CWE-526", "RC118", reads(SFT.replace("name: small", 'name: "${oc.env:HOME}"'))),
    Attack("reference-nested", "CWE-400", "RC118", reads(SFT.replace("name: small", 'name: "' + "${" * 3000 + '"'))),
    Attack("extends-absolute", "CWE-36", "RC121", reads(SFT + "extends: [/etc/passwd]\n")),
    Attack("extends-parent", "CWE-22", "RC121", reads(SFT + "extends: [../../../../etc/passwd]\n")),
    Attack("extends-itself", "CWE-835", "RC123", reads(SFT + "extends: [r.yaml]\n")),
    Attack("extends-address", "CWE-918", "RC120", reads(SFT + "extends: ['http://127.0.0.1:1/x.yaml']\n")),
    Attack("extends-link", "CWE-59", "RC121", linked),
    Attack(
        "extends-many", "CWE-400", "RC103", reads(SFT + f"extends: [{', '.join(['b.yaml'] * 5000)}]\n", b__yaml=SFT)
    ),
    Attack("recipe-endless-device", "CWE-400", "RC101", device("/dev/zero")),
    Attack("recipe-fifo", "CWE-400", "RC101", device("fifo")),
    Attack("recipe-link-to-itself", "CWE-61", "RC101", device("r.yaml")),
    Attack("name-parent", "CWE-22", "RC132", runs_as("../../outside")),
    Attack("name-absolute", "CWE-36", "RC132", runs_as("/srv/outside")),
    Attack("name-dot", "CWE-22", "RC132", runs_as("'..'")),
    Attack("name-option", "CWE-88", "RC132", runs_as("--out=x")),
    Attack("name-long", "CWE-170", "RC132", runs_as("a" * 5000)),
    Attack("stage-parent", "CWE-22", "RC140", changed("  learn:", "  ../../learn:")),
    Attack("stage-control", "CWE-150", "RC140", changed("  learn:", '  "le\\earn":')),
    Attack("data-control-name", "CWE-150", "RC152", changed("path: a.jsonl", 'path: "a\\n\\e[31m.jsonl"')),
    Attack("data-long-name", "CWE-20", "RC152", changed("path: a.jsonl", "path: " + "a" * 300 + ".jsonl")),
    Attack("use-outside", "CWE-98", DONE, code_outside),
    Attack("use-endless", "CWE-400", "RC145", reads(SFT + "use: [/dev/zero]\n")),
    Attack(
        "never-trust-remote-code",
        "CVE-2025-66448",
        "RC650",
        changed("optimizer:", "trust_remote_code: true\n    optimizer:"),
    ),
    Attack("never-target", "CVE-2025-23304", "RC130", changed("optimizer:", "_target_: os.system\n    optimizer:")),
    Attack(
        "many-unknown-keys", "CWE-407", "RC130", reads(SFT + "".join(f"k{i}: 1\n" for i in range(9000))), seconds=12
    ),
    Attack(
        "many-stages",
        "CWE-407",
        "RC133",
        reads(
            "recipec: 1\nname: a\nstages:\n" + "".join(f"  s{i}: {{kind: sft, from: nowhere{i}}}\n" for i in range(600))
        ),
        seconds=20,
    ),
    Attack(
        "key-of-another-service",
        "CWE-522",
        "RC132",
        reads(SFT + "machine: {services: {x: {url: 'https://e.com', key_variable: AWS_SECRET_ACCESS_KEY}}}\n"),
    ),
    Attack("many-steps", "CWE-400", DONE, changed("steps: 2", "steps: 1000000000000")),
    Attack("giant-model", "CWE-400", DONE, changed("hidden_size: 16", "hidden_size: 16000000"), memory=400),
]
