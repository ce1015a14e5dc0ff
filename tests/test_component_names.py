"""No file but a component's own knows it by its name: a component of another package is treated as one of ours."""

import ast
from collections.abc import Iterator
from pathlib import Path

from recipec.component import components_of
from recipec.signals import SIGNALS
from recipec.spec.recipe import COMPONENT_SLOTS, DEFAULT_LOSS

PACKAGE = Path(__file__).parent.parent / "recipec"
# Names that are words of the language, too: slots, kinds of stages, artifacts, and the key that every library has.
LANGUAGE = {*COMPONENT_SLOTS, *DEFAULT_LOSS, *SIGNALS, "model"}
# File, the names in it, and why they stand there.
ALLOWED = {
    "spec/recipe.py": (
        {"file", "chain", "causal_lm", "auto", "frozen", "value_model", "adamw", "clipped", "nll", "bradley_terry"},
        "defaults of slots",
    ),
    "planning/sharing.py": ({"dense"}, "counts of rows that share nothing"),
    "runtime/training/measured_sharing.py": ({"dense"}, "counts of rows that share nothing"),
    "runtime/attention/certification/verb.py": ({"dense"}, "what an attention is compared with"),
    "runtime/attention/sequence_logprobs.py": ({"auto", "dense", "packed", "trie"}, "values of a public function"),
    "planning/machine_choice.py": ({"packed"}, "what `auto` is where a row is spread over devices"),
    "reading/lists.py": ({"function", "mix"}, "what a list of the user's functions and of files is written as"),
    # names that are words, too
    "reading/foreign/converters/critics.py": ({"gae"}, "name of an estimator in other tools"),
    "reading/foreign/converters/corrections.py": ({"cispo", "kl_cov", "sapo"}, "names of losses in other tools"),
    "reading/foreign/converters/roll.py": ({"gae", "reinforce"}, "names of estimators in ROLL"),
    "importing/shell_flow.py": ({"local"}, "word of a shell"),
    "importing/shell_script.py": ({"deepspeed"}, "program that starts others"),
    "reading/plain_mistakes.py": ({"function"}, "a key that is meant for `name`"),
    "component.py": ({"function"}, "kind of the user's own code"),
    "checks/user_code.py": ({"function"}, "kind of the user's own code"),
    "runtime/stage/build_stage.py": ({"function", "auto"}, "kind of the user's own code; device"),
    "runtime/data/messages.py": ({"function"}, "key of a tool call"),
    "runtime/environment/tools/calls.py": ({"function"}, "key of a tool call"),
    "runtime/environment/tools/schemas.py": ({"function"}, "key and value of the schema of a tool"),
    "spec/environment.py": ({"function"}, "kind of the user's own code"),
    "spec/machine.py": ({"auto"}, "device"),
    "spec/train_engine.py": ({"auto"}, "a value that the plan chooses"),
    "spec/rollout_engine.py": ({"auto"}, "a value that the plan chooses"),
    "host/preflight.py": ({"auto"}, "device"),
    "run/check.py": ({"auto"}, "device"),
    "run/executor.py": ({"auto"}, "device"),
    "run/machine_time.py": ({"auto"}, "device"),
    "runtime/distributed/ray_launch.py": ({"auto"}, "address of the cluster that is found"),
    "runtime/model/quantization.py": ({"auto"}, "device"),
    "runtime/attention/interface.py": ({"auto"}, "kernel"),
    "reading/foreign/tables.py": ({"kto"}, "name of a trainer of TRL"),
    "spec/loss/policy_gradient.py": ({"own"}, "value of `ratio_gradient`"),
    "spec/loss/preference.py": ({"nll"}, "name of a parameter"),
    "runtime/objective/token_ratios.py": ({"own"}, "value of `ratio_gradient`"),
    "spec/preference.py": ({"triples"}, "unit"),
    "report/samples.py": ({"tree"}, "key of a sample"),
    **{f"importing/{name}.py": ({"file"}, "origin of a value") for name in ("complete", "translate", "write")},
    "reading/foreign/converters/models.py": ({"auto"}, "device; data type; template"),
    "runtime/knowledge/consistency.py": ({"triples"}, "key of a record"),
    "runtime/preference/kg_pairs.py": ({"triples"}, "key of a record"),
    "diagnostics/formats.py": ({"file"}, "key of a message"),
    "runtime/environment/textworld/games.py": ({"file"}, "key of a request"),
    "runtime/environment/textworld/worker.py": ({"file"}, "key of a request"),
    "runtime/knowledge/extract.py": ({"file"}, "key of a record"),
    "runtime/preference/best_vs_worst.py": ({"file"}, "key of a record"),
}


def homes() -> dict[str, set[str]]:
    """Name of each component to the modules that may name it: its spec file and its implementation."""
    found: dict[str, set[str]] = {}
    for slot in COMPONENT_SLOTS:
        for name, cls in components_of(slot).items():
            found.setdefault(name, set()).update({cls.__module__, cls.impl.partition(":")[0]})
    return {name: modules for name, modules in found.items() if name not in LANGUAGE}


def literals(tree: ast.Module) -> Iterator[ast.Constant]:
    """Strings of a file that are values: no docstring, no piece of an f-string."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    prose |= {id(piece) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node


def test_no_component_is_known_by_its_name() -> None:
    """A component's name is a literal in its spec file, in its implementation, and where there is a reason."""
    known: dict[str, set[str]] = homes()
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        module = ".".join(("recipec", *place.with_suffix("").parts))
        for literal in literals(ast.parse(path.read_text(encoding="utf-8"))):
            name = str(literal.value)
            if name in known and module not in known[name] and name not in place.parts:
                found.setdefault(place.as_posix(), set()).add(name)
    assert found == {file: found.get(file) if names is None else names for file, (names, _) in ALLOWED.items()}
