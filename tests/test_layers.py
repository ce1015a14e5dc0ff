"""Who may import whom: the arrows as a table, and the proof that validation needs no torch."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "recipec"
# A folder or loose file may import itself, what it lists, and nothing else of ours; read from top to bottom.
ALLOWED = {
    "signals": set(),
    "package_files": set(),
    "component": {"signals"},
    "spec": {"component", "signals"},
    "graph": {"signals", "component"},
    "graph_drawing": {"graph"},
    "diagnostics": {"signals", "component"},
    "language": {"diagnostics", "package_files"},
    "reading": {"diagnostics", "language", "spec", "component", "signals"},
    "lowering": {"spec", "component", "signals", "graph"},
    "planning": {"diagnostics", "lowering", "spec", "component", "signals", "graph"},
    "checks": {"diagnostics", "language", "reading", "planning", "spec", "component", "signals", "graph"},
    "compile": {"diagnostics", "language", "reading", "checks", "lowering", "spec", "graph"},
    "yaml_io": {"diagnostics", "language", "reading", "spec"},
    "catalogue": {"diagnostics", "language", "reading", "spec", "component", "signals", "graph", "package_files"},
    "run": {"runtime", "diagnostics", "compile", "planning", "spec", "component", "signals", "graph", "package_files"},
    "runtime": {"diagnostics", "reading", "planning", "run", "spec", "component", "signals", "graph", "package_files"},
    "cli": {"runtime", "diagnostics", "language", "reading", "checks", "compile", "planning", "run", "catalogue",
            "graph", "graph_drawing"},
    "__main__": {"cli"},
    "__init__": {"diagnostics", "yaml_io", "spec", "runtime"},
}  # fmt: skip
# Lazy arrows upwards, each with its reason.
UPWARDS = {
    ("spec/recipe.py", "yaml_io"): "`Recipe.to_yaml` and `from_yaml` are conveniences of the model",
}
# Each dependency comes in by one door.
DOORS = {
    "yaml": {"language/yaml_reader.py", "language/scalars.py"},
    "omegaconf": {"language/resolve.py"},
    "jinja2": {"run/templates.py", "runtime/data/text.py"},
    "vllm": set(),
    "deepspeed": set(),
    "ray": set(),
    "pickle": set(),
}
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "numpy",
    "safetensors",
    "pyarrow",
    "reasoning_gym",
    "tensorboard",
    "accelerate",
    "gymnasium",
    "textworld",
    "alfworld",
    "jericho",
    "fast_downward",
    "PIL",
    "pyoxigraph",
    "pyhpo",
}


def imports(path: Path) -> set[str]:
    """Every module that a file names, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> str:
    """The part of the package that a dotted module belongs to."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


FILES = sorted(p for p in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_arrows_point_one_way(path: Path) -> None:
    """A file imports only layers below its own."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    existing = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()}
    asked = {layer(name) for name in imports(path) if name.startswith("recipec.")} & existing

    lazy = {to for (place, to) in UPWARDS if place == path.relative_to(PACKAGE).as_posix()}
    assert asked - ALLOWED[own] - {own} - lazy == set()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_heavy_packages_live_in_the_runtime(path: Path) -> None:
    """Nothing outside `runtime/` names torch and its kin, not even inside a function."""
    if path.relative_to(PACKAGE).parts[0] == "runtime":
        return
    found = {name.partition(".")[0] for name in imports(path)}

    assert found & HEAVY == set()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_one_door_for_each_dependency(path: Path) -> None:
    """YAML, OmegaConf and Jinja are named in one file each; pickle in none."""
    found = {name.partition(".")[0] for name in imports(path)}
    for package, doors in DOORS.items():
        place = path.relative_to(PACKAGE).as_posix()
        assert package not in found or place in doors


def test_nothing_runs_what_it_reads() -> None:
    """No eval, exec, torch.load, yaml.load, os.system or trust_remote_code=True is called anywhere."""
    forbidden = {"eval", "exec", "system", "popen", "__import__"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            owner = getattr(getattr(node.func, "value", None), "id", "")
            # `model.eval()` switches dropout off; the builtin is a bare name
            is_name = isinstance(node.func, ast.Name)
            assert not (is_name and called in forbidden), f"{path}:{node.lineno}"
            assert (owner, called) not in {("torch", "load"), ("yaml", "load"), ("os", "system")}, (
                f"{path}:{node.lineno}"
            )
            for keyword in node.keywords:
                on = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                assert not (on and keyword.arg in {"trust_remote_code", "shell"}), f"{path}:{node.lineno}"


def test_files_and_functions_stay_small() -> None:
    """No file is over 400 lines, no function over 60."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}:{node.lineno} {node.name}"
