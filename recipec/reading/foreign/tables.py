"""The tables of names of other tools: which name is which key here, and what cannot be written or is not needed.

The file of a tool has these tables:

``tool``, ``marks``, ``commands``
    its name; names that only its files have; words of the command that starts it.
``strict``
    whether the tool refuses names that it does not know, so that such a name tells of a fork or another version.
``token_kl``
    whether a KL penalty in the reward is of tokens, and added after rewards were compared.
``shares``
    another table that its files draw on, too; if that is of a tool, a mark tells its files from those of the other.
``keys``, ``rl``, ``sft``, ``dpo``, …
    name = path, or ``[path, converter]``, or ``[path, converter, note]`` where unit or meaning differ; in ``keys`` for
    any kind of stage.  A name that ends in ``.*`` stands for everything below it, and so does
    its path.
``aliases``
    names of earlier versions, with the present name, or one for each kind of stage.
``missing``, ``unneeded``
    lists of ``{why, names}``: what cannot be written here, and what need not be.  ``NAME=VALUE`` loses nothing with
    that value, and no name does while the one that is its ``switch`` is off.
``choices.NAME``
    values of a name: a mapping of our paths, or a sentence where the value cannot be written.
``trainers.NAME``
    a trainer of the tool: its kind of stage, how it is recognised (``words`` of the command, ``keys``, or else
    ``values``), its
    ``defaults``, those that were others in ``earlier`` versions (a sentence, and a name that makes it matter no more),
    what it always ``sets``, and ``rows`` of names that mean another thing in it; ``like`` is a trainer of this table,
    or of the shared one, with the same defaults.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from recipec.spec.recipe import UNIT

Verdict = Literal["kept", "missing", "unneeded"]
BELOW = "*"
_FOLDER = Path(__file__).parent
KINDS = tuple(dict.fromkeys((*UNIT, "kto")))
"""Kinds of stages that tables speak of; some may not exist here."""
_SECTIONS = ("keys", *KINDS)


_WHOLE = {"described", "shares"}
"""Converters that read a whole section."""


@dataclass(frozen=True, slots=True)
class Row:
    """One name of one tool.

    Example: ``Row("verl", "actor_rollout_ref.rollout.n", "", "kept", "sampler.num_generations")``.
    """

    tool: str
    name: str
    kind: str
    """The kind of stage in which it has this meaning; empty for any."""
    verdict: Verdict
    to: str = ""
    """Path from the stage on, or from the top for `evaluate`, `machine`, `name` and `seed`."""
    how: str = ""
    """Converter of the value and its arguments, and ` if ` with a condition; empty: the same value."""
    note: str = ""
    """Where unit or meaning differ; for the other verdicts, the reason."""
    usual: str = ""
    """Value that loses nothing, of what cannot be written."""
    switch: str = ""
    """Name that switches on what cannot be written."""

    @property
    def words(self) -> tuple[str, ...]:
        """The parts of the name."""
        return tuple(self.name.split("."))


@dataclass(frozen=True, slots=True)
class Trainer:
    """One trainer of a tool.

    Example: ``Trainer("grpo", "GRPO", "rl", ("grpo",), ("num_generations",), {"beta": 0.0}, {}, {})``.
    """

    name: str
    title: str
    kind: str
    words: tuple[str, ...]
    keys: tuple[str, ...]
    defaults: Mapping[str, Any]
    sets: Mapping[str, Any]
    assumes: Mapping[str, tuple[Any, str]]
    """Values of paths that a recipe must have and no name gives, with a sentence about each."""
    values: tuple[str, ...] = ()
    """``NAME=VALUE`` by which it is known where no word and no key tells."""
    lost: tuple[str, ...] = ()
    """What cannot be written of it."""
    earlier: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Defaults that were others in earlier versions: a sentence, and a name that makes it matter no more."""
    rows: Mapping[str, Row] = field(default_factory=dict)
    """Names that mean another thing in this trainer than in others of its kind."""


@dataclass(frozen=True, slots=True)
class Tool:
    """The table of one tool."""

    name: str
    slug: str
    rows: tuple[Row, ...]
    choices: Mapping[str, Mapping[str, Any]]
    marks: tuple[str, ...]
    commands: tuple[str, ...]
    trainers: Mapping[str, Trainer]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of earlier versions, with the present ones."""
    strict: bool = False
    """Whether it refuses names that it does not know."""
    token_kl: bool = False
    """Whether a KL penalty in the reward is of tokens, and added after rewards were compared."""
    fork: bool = False
    """Whether it shares the names of a tool with trainers of its own."""
    index: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)

    def row(self, name: str, kind: str, trainer: Trainer | None = None) -> Row | None:
        """Find the row of a name as this tool's files write it, or of the section that it is in."""
        words = name.split(".")
        if trainer is not None and name in trainer.rows:
            return trainer.rows[name]
        exact = self._of_kind(name, kind)
        if exact is not None:
            return exact
        for length in range(len(words) - 1, 0, -1):
            found = self._of_kind(".".join((*words[:length], BELOW)), kind)
            if found is not None:
                rest = ".".join(words[length:])
                return replace(found, to=f"{found.to[: -len(BELOW)]}{rest}") if found.to.endswith(BELOW) else found
        return None

    def _of_kind(self, name: str, kind: str) -> Row | None:
        rows = self.index.get(name, ())
        return next((row for row in rows if row.kind == kind), next((row for row in rows if not row.kind), None))

    def knows(self, name: str) -> bool:
        """Whether the table has the name, for any kind of stage, or reads the section that it is in as a whole."""
        known = any(self.row(name, kind) is not None for kind in ("", *KINDS))
        return known or any(name.startswith(f"{section}.") for section in self.wholes(*KINDS))

    def wholes(self, *kinds: str) -> list[str]:
        """Return the sections that are read as a whole, such as data sets with their shares."""
        return [row.name for row in self.rows if row.how.split(" ")[0] in _WHOLE and row.kind in {"", *kinds}]


@cache
def tools() -> tuple[Tool, ...]:
    """Read every table; only needed after a mistake."""
    files = {path.stem: path for path in sorted(_FOLDER.glob("*.toml")) if path.stem != "values"}
    tables = {slug: tomllib.loads(path.read_text("utf-8")) for slug, path in files.items()}
    return tuple(_tool(slug, table, tables.get(table.get("shares", ""), {})) for slug, table in tables.items())


@cache
def trainer_words() -> frozenset[str]:
    """Return the words of commands that start a trainer."""
    return frozenset(word for tool in tools() for trainer in tool.trainers.values() for word in trainer.words)


def _tool(slug: str, table: Mapping[str, Any], shared: Mapping[str, Any]) -> Tool:
    aliases = {name: tuple([to] if isinstance(to, str) else to) for name, to in table.get("aliases", {}).items()}
    own = tuple(_rows(table))
    own = (*own, *_of_aliases(own, aliases))
    known = {(row.name, row.kind) for row in own}
    rows = (*own, *(row for row in _rows(shared) if not {(row.name, row.kind), (row.name, "")} & known))
    index: dict[str, list[Row]] = {}
    for row in rows:
        index.setdefault(row.name, []).append(row)
    trainers = {
        name: _trainer(table["tool"], name, _like(entry, shared, table))
        for name, entry in table.get("trainers", {}).items()
    }
    return Tool(
        table["tool"],
        slug,
        rows,
        _choices(table, shared, aliases),
        tuple(table.get("marks", "").split()),
        tuple(table.get("commands", "").split()),
        trainers,
        aliases,
        table.get("strict", shared.get("strict", False)),
        table.get("token_kl", False),
        "trainers" in shared,
        {name: tuple(of_name) for name, of_name in index.items()},
    )


def _of_aliases(rows: Sequence[Row], aliases: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Yield the rows of present names under the names of earlier versions."""
    for name, present in aliases.items():
        yield from (replace(row, name=name) for row in rows if row.name in present)


def _choices(
    table: Mapping[str, Any], shared: Mapping[str, Any], aliases: Mapping[str, Sequence[str]]
) -> dict[str, Mapping[str, Any]]:
    known = {**shared.get("choices", {}), **table.get("choices", {})}
    return {**known, **{name: known[to] for name, present in aliases.items() for to in present if to in known}}


def _like(entry: Mapping[str, Any], *tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry of a trainer with the defaults of the one that it is like."""
    others = (table.get("trainers", {}).get(entry.get("like", "")) for table in tables)
    other: Mapping[str, Any] = next((found for found in others if found is not None), {})
    return {**entry, **{part: {**other.get(part, {}), **entry.get(part, {})} for part in ("defaults", "earlier")}}


def _rows(table: Mapping[str, Any]) -> Iterator[Row]:
    tool = table.get("tool", "")
    for section in _SECTIONS:
        kind = "" if section == "keys" else section
        for name, entry in table.get(section, {}).items():
            yield _kept(tool, name, kind, entry)
    for verdict in ("missing", "unneeded"):
        for entry in table.get(verdict, []):
            for written in entry["names"].split():
                name, _, usual = written.partition("=")
                kind, switch = entry.get("kind", ""), entry.get("switch", "")
                yield Row(tool, name, kind, verdict, note=entry["why"], usual=usual, switch=switch)


def _kept(tool: str, name: str, kind: str, entry: str | list[str]) -> Row:
    to, how, note = (*([entry] if isinstance(entry, str) else entry), "", "")[:3]
    return Row(tool, name, kind, "kept", to, how, note)


def _trainer(tool: str, name: str, entry: Mapping[str, Any]) -> Trainer:
    words, keys = (tuple(entry.get(part, "").split()) for part in ("words", "keys"))
    assumes = {path: (value, note) for path, (value, note) in entry.get("assumes", {}).items()}
    return Trainer(
        name,
        entry.get("title", name),
        entry["kind"],
        words,
        keys,
        entry.get("defaults", {}),
        entry.get("sets", {}),
        assumes,
        tuple(entry.get("values", "").split()),
        tuple(entry.get("lost", ())),
        {
            name: tuple([*([said] if isinstance(said, str) else said), ""][:2])
            for name, said in entry["earlier"].items()
        },
        {name: _kept(tool, name, entry["kind"], row) for name, row in entry.get("rows", {}).items()},
    )


@cache
def rows_by_last_word() -> Mapping[str, tuple[Row, ...]]:
    """Return the rows of all tools by the last word of their name; only needed after a mistake."""
    found: dict[str, list[Row]] = {}
    for tool in tools():
        for row in tool.rows:
            if row.tool != tool.name:  # of a table that is shared
                continue
            words = row.words[:-1] if row.words[-1] == BELOW else row.words
            found.setdefault(words[-1], []).append(row)
    return {word: tuple(rows) for word, rows in found.items()}


@cache
def _sections() -> frozenset[str]:
    return frozenset(row.words[0] for tool in tools() for row in tool.rows if len(row.words) > 1)


def is_section(word: str) -> bool:
    """Whether files of a tool have a section of this name.

    >>> is_section("actor_rollout_ref"), is_section("optimzer")
    (True, False)
    """
    return word in _sections()


def _only_rl(row: Row, kind: str) -> bool:
    """Whether a name means what stages of another kind cannot have."""
    return kind in {"sft", "dpo", "rm"} and row.to.split(".")[0] in {"environment", "sampler", "advantage", "critic"}


# Words that many tools use for many things: alone they do not tell the tool.
_GENERIC = frozenset(
    """n k name type path enable enabled mode freq size steps format seed value id dtype host port url backend level
    strategy interval source kind config options args kwargs template split columns field max_length prompt""".split()  # noqa: SIM905
)


def find(head: tuple[str, ...], tail: tuple[str, ...], kind: str, others: tuple[str, ...] = ()) -> list[Row]:
    """Find the rows of a key that nothing here reads, the best first.

    ``head`` are keys of the recipe around it, ``tail`` the rest of its path, the key last: the name must end with all
    of it, since the same word means another thing in another section. ``others`` are further keys next to it that
    nothing reads: of several tools, those are meant that know most of them.

    >>> {row.to for row in find((), ("rollout", "n"), "rl")}
    {'sampler.num_generations'}
    """
    tail = tuple(word.replace("-", "_") for word in tail)
    path = (*head, *tail)
    near = [{row.tool for row in find(head, (other,), kind)} for other in others]
    ranked = []
    for row in rows_by_last_word().get(tail[-1], ()):
        if row.words[-1] == BELOW or (row.kind and kind and row.kind != kind) or _only_rl(row, kind):
            continue
        words = row.words
        common = _common_end(path, words)
        if common < min(len(tail), len(words)) or (len(words) < len(tail) and not _wraps(tail[: -len(words)])):
            continue
        lone = common == 1 and tail[-1] in _GENERIC and len(words) > 1
        home = row.to.split(".")[0] if row.verdict == "kept" else ""
        if lone and not (head and home == head[0]):
            continue
        known = sum(row.tool in owners for owners in near)
        ranked.append((-known, -common, not (head and home == head[0]), row.verdict != "kept", len(words), row))
    if not ranked:
        return _of_section(tail, kind)
    best = min(ranked, key=lambda one: one[:3])[:3]
    found = [one[-1] for one in sorted(ranked, key=lambda one: one[:5]) if one[:3] == best]
    return [row for row in found if not _aside(row, tail)] or found


_ASIDE = frozenset(
    """critic env custom_envs validation reference ref val_kwargs eval eval_gconfig eval_sampling_params""".split()  # noqa: SIM905
)
"""Sections of a second model, of an environment or of an evaluation, with names that others have, too."""


def _aside(row: Row, tail: tuple[str, ...]) -> bool:
    """Whether a name is of such a section, and what is typed is not."""
    return bool(_ASIDE & {*row.words}) and not _ASIDE & {*tail}


def _of_section(tail: tuple[str, ...], kind: str) -> list[Row]:
    """Find rows that stand for everything below a section that ``tail`` goes through."""
    for length in range(len(tail) - 1, 0, -1):
        found = [
            row
            for row in rows_by_last_word().get(tail[length - 1], ())
            if row.words[-1] == BELOW
            and (not row.kind or not kind or row.kind == kind)
            and _common_end(tail[:length], row.words[:-1]) == length
        ]
        if found:
            return found
    return []


_WRAPPERS = frozenset({"config", "args", "trainingargs", "peft"})
"""Words around names that mean the same without them."""


def _wraps(words: tuple[str, ...]) -> bool:
    """Whether the words around a name are only those by which a whole configuration is passed on."""
    slugs = {re.sub(r"[^a-z]", "", tool.slug) for tool in tools()}
    return all(re.sub(r"[^a-z]", "", word.lower()) in {*slugs, *_WRAPPERS} for word in words)


def _common_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count
