"""`validate` opens, imports, reads and starts nothing but the recipe's own files."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROBE = r"""
import builtins, json, os, sys
path = sys.argv[1]
allowed_environment = {"TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE",
                       "_TYPER_COMPLETE_ARGS", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH"}
# what Python and its packages read while they are imported is their affair, and says nothing of a recipe
import recipec.compile, recipec.catalogue.code_pages, recipec.diagnostics.formats
from recipec.cli import app
from recipec.component import components_of
from recipec.spec.recipe import SLOTS
for slot in SLOTS:
    components_of(slot.name)
import sysconfig, omegaconf, rapidfuzz.distance
sysconfig.get_config_vars()
seen = {"sockets": [], "processes": [], "files": [], "environment": []}
def audit(event, args):
    if event.startswith("socket."):
        seen["sockets"].append(event)
    if event in {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn"}:
        seen["processes"].append(event)
    if event == "open" and isinstance(args[0], str):
        seen["files"].append(os.path.abspath(args[0]))
class Watched(dict):
    def _note(self, key):
        name = key.decode() if isinstance(key, bytes) else key
        if name not in allowed_environment and not name.startswith(("PYTHON", "PYDANTIC_", "TYPER_", "RICH_", "_")):
            seen["environment"].append(name)
    def __getitem__(self, key):
        self._note(key)
        return super().__getitem__(key)
    def get(self, key, default=None):
        self._note(key)
        return super().get(key, default)
    def __contains__(self, key):
        self._note(key)
        return super().__contains__(key)
os.environ = Watched(os.environ)
os.getenv = os.environ.get
sys.addaudithook(audit)
try:
    code = app(["validate", path], standalone_mode=False)
except SystemExit as end:
    code = end.code
heavy = {"torch", "transformers", "numpy", "peft", "vllm", "deepspeed", "pyarrow", "safetensors", "reasoning_gym",
         "huggingface_hub", "requests", "http.client", "wandb", "mlflow", "trackio"}
seen["modules"] = sorted(heavy & set(sys.modules))
seen["code"] = code
print(json.dumps(seen))
"""


def probe(path: Path) -> dict[str, object]:
    """Validate a recipe under an audit hook and a watched environment."""
    done = subprocess.run([sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_good_recipe(tmp_path: Path) -> None:
    """A recipe that extends, interpolates and names data and weights touches only itself and what it extends."""
    (tmp_path / "base.yaml").write_text("recipec: 1\nloss: {type: clipped, epsilon: 0.1}\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "recipec: 1\nname: r\nvars: {n: 4}\nuse: [./rewards.py]\nstages:\n  explore:\n    kind: rl\n"
        "    from: Qwen/Qwen2.5-3B\n    extends: [base.yaml]\n    data: {path: data.jsonl}\n"
        '    sampler: {num_generations: "${vars.n}"}\n    reward: {right: {type: exact_match}}\n'
        "    advantage: {group: {type: group_relative}}\n    budget: {steps: 1, prompts_per_step: 1}\n"
        "    optimizer: {}\n"
        "trackers: {a: {type: wandb}, b: {type: mlflow}, c: {type: trackio}}\n"
    )
    seen = probe(recipe)

    files = [name for name in seen["files"] if not name.endswith((".py", ".pyc", ".so"))]  # type: ignore[union-attr]
    own = {str(recipe), str(tmp_path / "base.yaml")}
    stray = {f for f in files if f not in own and "site-packages" not in f and "/lib/python" not in f}
    assert own <= set(files)
    assert stray - {str(tmp_path / "rewards.py")} == set()
    assert {k: seen[k] for k in ("sockets", "processes", "environment", "modules")} == {
        "sockets": [], "processes": [], "environment": [], "modules": [],
    }  # fmt: skip


def test_what_starts_slowly_is_not_imported(tmp_path: Path) -> None:
    """A good recipe is checked without plugins of pydantic, which are code of others, advice or a plan."""
    (tmp_path / "noisy.py").write_text("plugin = None")
    (tmp_path / "noisy-1.0.dist-info").mkdir()
    (tmp_path / "noisy-1.0.dist-info" / "METADATA").write_text("Name: noisy\nVersion: 1.0\n")
    (tmp_path / "noisy-1.0.dist-info" / "entry_points.txt").write_text("[pydantic]\nnoisy = noisy:plugin\n")
    command = [sys.executable, "-X", "importtime", "-m", "recipec", "validate", "recipes/tiny/quickstart.yaml"]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "recipec.spec.reward" in imported
    assert not {"noisy", "recipec.reading.foreign.advice", "recipec.lowering.lower", "recipec.planning.cost"} & imported


def test_a_hostile_recipe(tmp_path: Path) -> None:
    """Tags, resolvers and paths that would run, read or fetch are refused without doing so."""
    canary = tmp_path / "canary"
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"recipec: 1\nname: !!python/object/apply:os.system ['touch {canary}']\nstages:\n  a:\n    kind: rl\n"
        '    from: "${oc.env:HOME}"\n    extends: [/etc/passwd, ../../etc/hosts]\n    trust_remote_code: true\n'
    )
    seen = probe(recipe)

    assert seen["code"] == 1
    assert not canary.exists()
    assert "/etc/passwd" not in seen["files"]  # type: ignore[operator]
    assert {k: seen[k] for k in ("sockets", "processes", "environment", "modules")} == {
        "sockets": [], "processes": [], "environment": [], "modules": [],
    }  # fmt: skip
