"""A model as it leaves a run: a folder that other tools load as the trained model, with a card made from the run."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors import export as errors, run as run_errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import MANIFEST, RESOLVED, check_folder, sync
from recipec.host.jsonl import read_lines
from recipec.host.packages import runtime_packages
from recipec.host.small_files import read_small
from recipec.report.results import results
from recipec.run.licences import data_of, licences

_ADAPTER = "adapter_config.json"
_OF_ADAPTER = ("adapter_*", "*token*", "vocab*", "merges*", "special_*", "chat_template*", "*processor*")
"""Files of a policy with an adapter that go with the adapter alone."""
_OWN = ("_name_or_path", "base_model_name_or_path")
"""Keys of descriptions that may hold a path of the machine that trained."""


def export(run: Path, to: Path | None = None, stage: str | None = None, *, merge: bool = False) -> Path:
    """Write the policy of a stage, the last one by default, into the folder ``to`` and return it.

    ``merge`` adds an adapter to the weights under it. Without it an adapter is exported alone, for a base of the hub.

    Raises:
        RecipeError: RC772 this is not a run; RC936 there is no finished policy; RC937 the adapter's base is not on the
            hub; RC766 a file was altered; RC761 the folder exists or cannot be written.
    """
    names = stages_of(run)
    about = about_run(run)
    name = stage or names[-1]
    policy = run / "stages" / name / "policy"
    if name not in names or not policy.exists():
        raise RecipeError(
            errors.no_policy(str(run), name, [n for n in names if (run / "stages" / n / "policy").exists()])
        )
    check_folder(policy)
    target = to or run / "export"
    if target.exists():
        remedy = "delete it, or choose another folder with `--to`"
        raise RecipeError(run_errors.cannot_write(str(target), "it exists", remedy))
    adapted = (policy / _ADAPTER).exists()
    base = str(_json(policy / _ADAPTER).get("base_model_name_or_path") or "") if adapted else ""
    if adapted and not merge and not base:
        raise RecipeError(errors.base_not_on_hub(name))
    temporary = target.with_name(f".tmp-{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        if adapted and merge:
            with runtime_packages():
                from recipec.runtime.model.merged import write_merged  # noqa: PLC0415 - torch comes in here
            write_merged(policy, temporary)
        else:
            _copy(policy, temporary, _OF_ADAPTER if adapted else ("*",))
        for file in temporary.glob("*.json"):
            _without_paths(file)
        (temporary / "README.md").write_text(card(run, about, names, name, base), encoding="utf-8")
        sync(temporary)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def stages_of(run: Path) -> list[str]:
    """Return the names of the stages of a run directory, in order.

    Raises:
        RecipeError: RC772, the directory is not that of a run.
    """
    try:
        return [str(stage["name"]) for stage in json.loads(read_small(run / "graph.json"))["stages"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(run_errors.unreadable_run(str(run / "graph.json"), error)) from error


def about_run(run: Path) -> dict[str, Any]:
    """Return the versions, the seed and the resolved recipe of a run.

    Raises:
        RecipeError: RC772, they cannot be read.
    """
    try:
        facts = json.loads(read_small(run / "run.json"))
        recipe = read_small(run / RESOLVED) if (run / RESOLVED).exists() else ""
        return {"versions": dict(facts["versions"]), "seed": facts["seed"], "recipe": recipe}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecipeError(run_errors.unreadable_run(str(run), error)) from error


def _copy(policy: Path, target: Path, patterns: tuple[str, ...]) -> None:
    for path in sorted({path for pattern in patterns for path in policy.glob(pattern)}):
        if path.is_dir():
            shutil.copytree(path, target / path.name)
        elif path.name != MANIFEST:
            shutil.copy2(path, target / path.name)


def _without_paths(file: Path) -> None:
    """Remove paths of this machine from a description; names of the hub stay."""
    described = _json(file)
    paths = [key for key in _OWN if str(described.get(key) or "").startswith(("/", ".", "package:"))]
    if paths:
        without_paths = {key: (None if key in paths else value) for key, value in described.items()}
        file.write_text(json.dumps(without_paths, indent=2) + "\n", encoding="utf-8")


def card(run: Path, about: Mapping[str, Any], names: list[str], stage: str, base: str = "") -> str:
    """Write a model card: what it was trained on and how, and its held-out results."""
    graph = _json(run / "graph.json")
    origins = [str(one["origin"]) for one in graph["stages"] if one["origin"] not in {*names, "scratch"}]
    hub = base or next(
        (name for name in origins if name.count("/") == 1 and not name.startswith((".", "/", "package"))), ""
    )
    kind = next(str(one["kind"]) for one in graph["stages"] if one["name"] == stage)
    task = "text-classification" if kind == "rm" else "text-generation"
    what = "reward model" if kind == "rm" else "policy"
    head = ["---", "library_name: transformers", f"pipeline_tag: {task}", "tags: [recipec]"]
    lines = [*head, *([f"base_model: {hub.partition('@')[0]}"] if hub else []), "---", "", f"# {graph['name']}", ""]
    lines += [f"Trained with recipec {about['versions']['recipec']}; this is the {what} after the stage `{stage}`.", ""]
    lines += ["## Training", "", "| stage | kind | from | data | steps |", "|---|---|---|---|---|"]
    lines += [_row(run, one) for one in graph["stages"][: names.index(stage) + 1]]
    table = results(run, names)
    if table is not None:
        lines += ["", "## Held-out results", "", "| | " + " | ".join(table.columns) + " |"]
        lines += ["|---" * (len(table.columns) + 1) + "|"]
        for moment in table.points:
            cells = (f"{value} ({change})" if change else value for value, change in table.cells(moment))
            lines.append(f"| {moment.when} | " + " | ".join(cells) + " |")
    sources = [f"- `{what}`: {licence}" for what, licence in licences(graph["stages"][: names.index(stage) + 1])]
    first = "Not stated. It depends on those of the initial weights and of the data"
    lines += ["", "## Licence", "", *([f"{first}:", "", *sources] if sources else [f"{first}, which are local files."])]
    if about["recipe"]:
        lines += [
            "",
            "## Recipe",
            "",
            "Every value with the place that says it:",
            "",
            "```text",
            *_relative(about["recipe"]),
            "```",
        ]
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    return "\n".join([*lines, "", f"Versions: {versions}. Seed: {about['seed']}.", ""])


def _row(run: Path, stage: Mapping[str, Any]) -> str:
    steps = [row.get("step") for row in read_lines(run / "stages" / stage["name"] / "metrics.jsonl")]
    data: Mapping[str, Any] = next(data_of(stage), {})
    source = data.get("path") or data.get("hub") or data.get("task") or data.get("rollouts") or data.get("split") or "-"
    return f"| {stage['name']} | {stage['kind']} | {stage['origin']} | {source} | {steps[-1] if steps else 0} |"


def _relative(text: str) -> Iterator[str]:
    """Leave the folders out of the places."""
    for line in text.splitlines():
        value, mark, place = line.rpartition("  # ")
        yield f"{value}{mark}{place.rpartition('/')[2]}" if mark else line


def _json(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(read_small(path))
    except (OSError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
