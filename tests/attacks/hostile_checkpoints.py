"""Attacks by the run directory of somebody else: checkpoints that are not of this run, or were made to look so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from attacks.attack import DONE, Attack, Scene
from support.small_recipes import ROWS, SFT

RECIPE = SFT.replace("steps: 2", "steps: 2, save_every: 1")
LEARN = Path("runs/small/stages/learn")
STEP = LEARN / "checkpoints/step-000001"
Change = Callable[[Scene], None]


@cache
def home(recipe: str) -> Path:
    """Make a run, and return the folder around it."""
    import os

    from attacks.attack import Scene as Place

    before = Path.cwd()
    folder = before.parent / f"made-{abs(hash(recipe))}"
    folder.mkdir()
    os.chdir(folder)
    place = Place(folder)
    place.write("a.jsonl", ROWS)
    place.write("r.yaml", recipe)
    assert place.call("run", "r.yaml", "--quiet") == DONE, place.last
    os.chdir(before)
    return folder


def continues(change: Change, *, forged: bool = True, recipe: str = RECIPE):
    """Continue a run that was killed after its first checkpoint, which was changed since.

    ``forged``: its manifest has the hashes of what is there.
    """

    def act(scene: Scene) -> str:
        shutil.copytree(home(recipe), scene.folder, dirs_exist_ok=True)
        shutil.rmtree(LEARN / "policy")
        shutil.rmtree(LEARN / "checkpoints/step-000002")
        change(scene)
        if forged:
            from recipec.host.artifacts import write_manifest

            about = json.loads((STEP / "MANIFEST.json").read_text())
            (STEP / "MANIFEST.json").unlink()
            write_manifest(STEP, {k: v for k, v in about.items() if k != "files"})
        ended = scene.call("run", "r.yaml", "--quiet")
        if ended == DONE:
            finite(LEARN / "policy")
        return ended

    return act


def finite(policy: Path) -> None:
    """Assert that no weight that was saved is NaN or infinite."""
    from safetensors.torch import load_file

    for path in policy.glob("*.safetensors"):
        assert all(bool(weight.isfinite().all()) for weight in load_file(path).values())


def state(**changed: Any) -> Change:
    """Change values of `state.json`; None removes the key."""

    def change(_scene: Scene) -> None:
        path = STEP / "state.json"
        found = {**json.loads(path.read_text()), **changed}
        path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return change


def part(name: str, value: Any) -> Change:
    """Replace the state of a part."""

    def change(_scene: Scene) -> None:
        path = STEP / "state.json"
        found = json.loads(path.read_text())
        found["parts"][name] = value
        path.write_text(json.dumps(found))

    return change


def text(content: str | bytes, name: str = "state.json") -> Change:
    """Replace a file of the checkpoint."""
    return lambda scene: scene.write(str(STEP / name), content) and None


def tensors(spoil: Callable[[Any], Any]) -> Change:
    """Change every tensor of the checkpoint."""

    def change(_scene: Scene) -> None:
        from safetensors.torch import load_file, save_file

        path = STEP / "state.safetensors"
        save_file({name: spoil(value).contiguous() for name, value in load_file(path).items()}, path)

    return change


def fewer(_scene: Scene) -> None:
    """Leave one tensor."""
    from safetensors.torch import load_file, save_file

    path = STEP / "state.safetensors"
    save_file(dict([next(iter(load_file(path).items()))]), path)


def manifest(**changed: Any) -> Change:
    """Change the manifest alone."""

    def change(_scene: Scene) -> None:
        path = STEP / "MANIFEST.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return change


def swapped(recipe: str) -> Change:
    """Put the checkpoint of another run."""

    def change(_scene: Scene) -> None:
        shutil.rmtree(STEP)
        shutil.copytree(home(recipe) / STEP, STEP)

    return change


def claimed(recipe: str) -> Change:
    """Put the checkpoint of another run, under the digest of this one."""

    def change(scene: Scene) -> None:
        digest = json.loads((STEP / "MANIFEST.json").read_text())["digest"]
        swapped(recipe)(scene)
        manifest(digest=digest)(scene)

    return change


def linked(target: str) -> Change:
    """Make the state a link."""

    def change(_scene: Scene) -> None:
        (STEP / "state.json").unlink()
        (STEP / "state.json").symlink_to(target)

    return change


WIDE = RECIPE.replace("hidden_size: 16", "hidden_size: 32")
SEED = RECIPE.replace("name: small\n", "name: small\nseed: 5\n")
PICKLE = b"cos\nsystem\n(S'touch CANARY'\ntR."

ATTACKS = [
    Attack("checkpoint-good", "CWE-20", DONE, continues(lambda _: None)),
    Attack("checkpoint-swapped", "CWE-345", DONE, continues(swapped(SEED), forged=False)),
    Attack("checkpoint-claimed", "CWE-345", DONE, continues(claimed(SEED))),
    Attack("checkpoint-claimed-wide", "CWE-345", "RC789", continues(claimed(WIDE))),
    Attack("checkpoint-not-json", "CWE-20", "RC789", continues(text("{")), slow=True),
    Attack("checkpoint-deep", "CWE-674", "RC789", continues(text("[" * 200_000))),
    Attack("checkpoint-list", "CWE-704", "RC789", continues(text("[]")), slow=True),
    Attack("checkpoint-step-negative", "CWE-1284", "RC789", continues(state(step=-1)), slow=True),
    Attack("checkpoint-step-huge", "CWE-1284", "RC789", continues(state(step=10**18))),
    Attack("checkpoint-step-text", "CWE-704", "RC789", continues(state(step="x"))),
    Attack("checkpoint-tokens-list", "CWE-704", "RC789", continues(state(tokens=[])), slow=True),
    Attack("checkpoint-journal-negative", "CWE-1284", "RC789", continues(state(journal=-5))),
    Attack("checkpoint-journal-huge", "CWE-770", DONE, continues(state(journal=10**15))),
    Attack("checkpoint-journal-none", "CWE-20", "RC789", continues(state(journal=None)), slow=True),
    Attack("checkpoint-samples-path", "CWE-22", DONE, continues(state(samples={"../../../etc/passwd": "0"}))),
    Attack("checkpoint-samples-list", "CWE-704", "RC789", continues(state(samples=[1])), slow=True),
    Attack("checkpoint-no-parts", "CWE-20", "RC789", continues(state(parts=None)), slow=True),
    Attack("checkpoint-parts-list", "CWE-704", "RC789", continues(state(parts=[]))),
    Attack("checkpoint-part-list", "CWE-704", "RC789", continues(part("optimizer", [])), slow=True),
    Attack("checkpoint-part-empty", "CWE-20", "RC789", continues(part("optimizer", {})), slow=True),
    Attack(
        "checkpoint-source-huge",
        "CWE-1284",
        "RC789",
        continues(part("source", {"place": 10**18, "epoch": -1})),
        slow=True,
    ),
    Attack("checkpoint-tensor-name", "CWE-22", "RC789", continues(part("policy", {"$tensor": "/../../etc/passwd"}))),
    Attack(
        "checkpoint-nan",
        "CWE-1284",
        "RC763",
        continues(tensors(lambda t: t * float("nan") if t.is_floating_point() else t)),
    ),
    Attack("checkpoint-other-type", "CWE-704", "RC789", continues(tensors(lambda t: t.double()))),
    Attack("checkpoint-other-shape", "CWE-131", "RC789", continues(tensors(lambda t: t.flatten()[:1]))),
    Attack("checkpoint-few-tensors", "CWE-20", "RC789", continues(fewer), slow=True),
    Attack("checkpoint-header-bomb", "CWE-770", "RC789", continues(text(b"\xff" * 8 + b"{}", "state.safetensors"))),
    Attack("checkpoint-pickle", "CVE-2025-32434", DONE, continues(text(PICKLE, "state.pt"))),
    Attack("checkpoint-pickle-tensors", "CVE-2025-32434", "RC789", continues(text(PICKLE, "state.safetensors"))),
    Attack("checkpoint-link", "CWE-59", DONE, continues(linked("/etc/passwd"), forged=False), slow=True),
    Attack("checkpoint-link-device", "CWE-59", DONE, continues(linked("/dev/zero"), forged=False)),
    Attack(
        "checkpoint-manifest-path",
        "CWE-22",
        DONE,
        continues(manifest(files={"../../../../../../etc/passwd": {"bytes": 1, "sha256": ""}}), forged=False),
    ),
    Attack(
        "checkpoint-manifest-device",
        "CWE-400",
        DONE,
        continues(manifest(files={"/dev/zero": {"bytes": 0, "sha256": ""}}), forged=False),
    ),
    Attack("checkpoint-manifest-list", "CWE-704", DONE, continues(manifest(files=[1, 2]), forged=False), slow=True),
    Attack(
        "checkpoint-manifest-digest-list", "CWE-704", DONE, continues(manifest(digest=[1]), forged=False), slow=True
    ),
    Attack(
        "checkpoint-conditions-text", "CWE-704", "RC789", continues(manifest(conditions="x"), forged=False), slow=True
    ),
]
