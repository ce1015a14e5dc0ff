"""Play household games with TextWorld's PDDL engine, in a worker process.

The engine is that of the package.  This module makes it fast: a game is translated once and restarted from the
translation, commands are derived once for each operator, and replayed actions generate no text.
Facts are listed in a fixed order, so that the same state of a household has the same text however it was reached.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recipec.runtime.environment.alfworld import game_maker
from recipec.runtime.environment.worker_main import GameError

game_maker.quiet()

import fast_downward  # noqa: E402
import textworld  # noqa: E402
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler  # noqa: E402
from fast_downward.interface import DOWNWARD_LIB_PATH  # noqa: E402
from textworld.envs.pddl import (  # noqa: E402
    PddlEnv,
    logic as pddl,
    textgen,
)
from textworld.logic import Action, Placeholder, Proposition, Rule, Variable  # noqa: E402

WON = 10.0
"""Reward of a fulfilled task, as in GiGPO's released environments."""
_TASK = "Your task is to: "
_KEPT = 24
"""Most loaded games of a process, about 5 MB each."""
_MOVES = 1 << 14
"""Most cached moves of a game, about 1 KB each."""
_WARM = "train/0/0/pick_and_place_simple"


class _State(pddl.PddlState):  # type: ignore[misc]
    """State of a game that keeps its translation for a fast restart."""

    def __init__(self, library: Any, problem: str, logic: Any) -> None:
        self._logic = logic
        self.downward_lib = library
        self.pddl_problem = problem
        self.task, sas = fast_downward.pddl2sas(logic.domain, problem)
        self.sas = sas.encode("utf-8")
        self._actions = {action.name: action for action in self.task.actions}
        for kind in self.task.types:
            try:
                logic.types.add(textworld.logic.Type(kind.name, kind.supertype_names))
            except ValueError:  # a type of every logic
                continue
        self.name2type = {item.name: item.type_name for item in self.task.objects}
        self._known: dict[str, Action] = {}
        self._operators: dict[int, Any] = {}
        self._ordered: dict[Any, tuple[Any, ...]] = {}
        self._facts: dict[Any, set[Any]] = defaultdict(set)
        self._vars_by_name: dict[str, Any] = {}
        self._vars_by_type: dict[str, set[Any]] = defaultdict(set)
        self._var_counts: Counter[Any] = Counter()
        library.load_sas(self.sas)
        self.add_facts(self._first_facts())
        self._first = self._copied()
        self._stated = frozenset(map(str, self.facts))
        self.changed: dict[str, bool] = {}

    def restart(self) -> None:
        """Go back to the beginning of the game."""
        self.downward_lib.load_sas(self.sas)
        kept = self._first
        self._facts = defaultdict(set, {sign: set(facts) for sign, facts in kept[0].items()})
        self._vars_by_name = dict(kept[1])
        self._vars_by_type = defaultdict(set, {kind: set(variables) for kind, variables in kept[2].items()})
        self._var_counts = Counter(kept[3])
        self._ordered.clear()
        self.changed.clear()

    def facts_with_signature(self, sig: Any) -> tuple[Any, ...]:
        """Return the facts of one kind in a fixed order."""
        if sig not in self._ordered:
            self._ordered[sig] = tuple(sorted(self._facts.get(sig, ()), key=str))
        return self._ordered[sig]

    def add_fact(self, prop: Any) -> None:
        """Add a fact, and drop the ordered facts."""
        self._ordered.pop(prop.signature, None)
        super().add_fact(prop)

    def remove_fact(self, prop: Any) -> None:
        """Remove a fact, and drop the ordered facts."""
        self._ordered.pop(prop.signature, None)
        super().remove_fact(prop)

    def apply(self, action: Action) -> Any:
        """Take an action, and record the difference to the beginning."""
        changes = super().apply(action)
        for fact in changes:
            name = str(fact.negate() if fact.is_negation else fact)
            self.changed[name] = not fact.is_negation
            if (name in self._stated) == self.changed[name]:
                del self.changed[name]
        return changes

    def all_applicable_actions(self) -> list[Action]:
        """List the possible actions; each is built once."""
        count = self.downward_lib.get_applicable_operators_count()
        operators = (fast_downward.Operator * count)()
        self.downward_lib.get_applicable_operators(operators)
        self._operators.update((operator.id, operator) for operator in operators)
        first: dict[str, int] = {}
        for operator in operators:
            first.setdefault(operator.name, operator.id)
        return [self._action(name, number) for name, number in first.items()]

    def _action(self, name: str, number: int) -> Action:
        if name not in self._known:
            verb, *arguments = name.split()
            action = Action(name=verb, preconditions=[], postconditions=[])
            action.id = number
            action.mapping = {
                Placeholder(parameter.name.strip("?"), parameter.type_name): Variable(argument, parameter.type_name)
                for parameter, argument in zip(self._actions[verb].parameters, arguments, strict=False)
            }
            action.command_template = self._logic.actions[verb].template
            action.feedback_rule = self._logic.actions[verb].feedback_rule
            self._known[name] = action
        self._known[name].id = number
        return self._known[name]

    def _first_facts(self) -> list[Proposition]:
        count = self.downward_lib.get_state_size()
        atoms = (pddl.Atom * count)()
        self.downward_lib.get_state(atoms)
        facts = [self._fact(atom) for atom in self.task.init]
        return [f for f in facts if f] + [f for f in (a.get_fact(self.name2type) for a in atoms) if not f.is_negation]

    def _fact(self, atom: Any) -> Proposition | None:
        """Return a fact of the problem; None for numbers and equalities."""
        if getattr(atom, "predicate", "=") == "=":
            return None
        return Proposition(atom.predicate, [Variable(name, self.name2type[name]) for name in atom.args])

    def _copied(self) -> tuple[Any, ...]:
        facts = {sign: set(members) for sign, members in self._facts.items()}
        kinds = {kind: set(members) for kind, members in self._vars_by_type.items()}
        return facts, dict(self._vars_by_name), kinds, Counter(self._var_counts)


@dataclass(frozen=True, slots=True)
class _Move:
    """The effect of an action in a state; without an action where it is not possible."""

    action: Action | None
    state: int
    observed: dict[str, Any]


class Game(PddlEnv):  # type: ignore[misc]
    """One loaded game; all games of a process share one library, which has the state of one of them.

    The effect of an action in a state is cached, so the engine gets only moves that no earlier episode made.

    Example: ``Game.of(game_maker.make("train/0/0/pick_and_place_simple"), library())``.
    """

    def __init__(self, library: Any) -> None:
        textworld.Environment.__init__(self, textworld.EnvInfos(admissible_commands=True, won=True))
        self.downward_lib = library
        self.reached: tuple[str, ...] | None = None
        """Actions that led to the state of the library; None where it has another game."""
        self._commands: dict[str, str] = {}
        self._states: dict[frozenset[tuple[str, bool]], int] = {}
        self._moves: dict[tuple[int, str], _Move] = {}
        self._first: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any], library: Any) -> Game:
        """Load a game and name its things as ALFWorld does."""
        game = cls(library)
        AlfredDemangler(game, shuffle=False).load(data)
        return game

    def load(self, data: Mapping[str, Any]) -> None:
        """Parse and translate a game."""
        self._game_data, self._game_file, self.walkthrough = data, None, None
        self._logic = pddl.GameLogic(domain=data["pddl_domain"], grammar=data["grammar"])
        self._pddl_state = _State(self.downward_lib, data["pddl_problem"], self._logic)
        self._entity_infos = self._get_entity_infos()

    def at(self, actions: tuple[str, ...]) -> dict[str, Any]:
        """Return the result of the last of ``actions``, taken from the beginning."""
        if len(self._moves) > _MOVES:
            self._moves.clear()
            self._states.clear()
        if self._first is None:
            self._restart()
            self._first = self._observation("#intro#", {})
        observed, state, known = self._first, 0, 0
        for known, action in enumerate((*actions, "")):  # noqa: B007 - how far it came is what we want
            move = self._moves.get((state, action))
            if move is None:
                break
            observed, state = move.observed, move.state
        for taken in range(known, len(actions)):
            observed = self._new(actions[: taken + 1])
        return observed

    def _new(self, actions: tuple[str, ...]) -> dict[str, Any]:
        """Take an action for the first time in its state."""
        if self.reached != actions[:-1]:
            self._restart()
            self._again(actions[:-1])
        state = self._state()
        action = self._possible().get(actions[-1])
        if action is None:
            observed = {**self._observation("", {}), "text": "Nothing happens."}
        else:
            self.reached = None
            self._pddl_state.apply(action)
            observed = self._observation(action.feedback_rule, action.mapping)
        self._moves[state, actions[-1]] = _Move(action, self._state(), observed)
        self.reached = actions
        return observed

    def _restart(self) -> None:
        self.reached = None
        self._pddl_state.restart()
        self.reached = ()

    def _again(self, actions: tuple[str, ...]) -> None:
        """Take known actions again, from the beginning."""
        self.reached, state = None, self._state()
        for action in actions:
            move = self._moves[state, action]
            if move.action is not None:
                self._pddl_state.apply(move.action)
            state = move.state
        self.reached = actions

    def _state(self) -> int:
        """Return the number of the current state; 0 is the beginning."""
        changed = frozenset(self._pddl_state.changed.items())
        return self._states.setdefault(changed, len(self._states))

    def _possible(self) -> dict[str, Action]:
        """Return the possible actions by their commands."""
        actions: dict[str, Action] = {}
        for action in self._pddl_state.all_applicable_actions():
            actions.setdefault(self._command(action), action)
        return actions

    def _observation(self, rule: str, mapping: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the text of a grammar rule, the possible commands, and whether the task is fulfilled."""
        text = str(self._logic.grammar.derive(rule, self._context(mapping))).strip() if rule else ""
        actions = sorted(command for command in self._possible() if command != "help")
        return {"text": text, "actions": actions, "won": bool(self._pddl_state.check_goal())}

    def _context(self, mapping: Mapping[Any, Any]) -> dict[str, Any]:
        named = {holder.name: self._entity_infos[variable.name] for holder, variable in mapping.items()}
        return {
            "state": self._pddl_state,
            "facts": (),
            "variables": named,
            "mapping": dict(mapping),
            "entity_infos": self._entity_infos,
        }

    def _command(self, action: Action) -> str:
        """Return the command of an action, cached: the names in a command do not change in these games."""
        key = " ".join((action.name, *(variable.name for variable in action.mapping.values())))
        if key not in self._commands:
            mapping = {name: info.name for name, info in self._entity_infos.items()}
            action.command_template = self._logic.grammar.derive(action.command_template, self._context(action.mapping))
            self._commands[key] = str(action.format_command(mapping))
        return self._commands[key]


def library() -> Any:
    """Load the library of the planner in place; the loader of the package would copy it for each game."""
    loaded = ctypes.CDLL(DOWNWARD_LIB_PATH)
    atoms, operators = ctypes.POINTER(pddl.Atom), ctypes.POINTER(fast_downward.Operator)
    takes: dict[str, tuple[list[Any], Any]] = {
        "load_sas": ([ctypes.c_char_p], None),
        "get_applicable_operators_count": ([], ctypes.c_int),
        "get_applicable_operators": ([operators], None),
        "get_state_size": ([], ctypes.c_int),
        "get_state": ([atoms], None),
        "apply_operator": ([ctypes.c_int, atoms], ctypes.c_int),
        "check_goal": ([], ctypes.c_bool),
    }
    for name, (arguments, result) in takes.items():
        getattr(loaded, name).argtypes, getattr(loaded, name).restype = arguments, result
    return loaded


def cache_parsed_grammar() -> None:
    """Cache what the grammar of the package parsed, and copy only the parts of a context that change."""

    def parsed(text: str, **options: Any) -> Any:
        return copy.deepcopy(once(text, **options))  # a derivation writes into the symbols

    def copied(context: Mapping[str, Any]) -> dict[str, Any]:
        return {**context, "variables": {**context["variables"]}, "mapping": {**context["mapping"]}}

    once = functools.cache(textgen._parse_and_convert)  # noqa: SLF001 - the package has no public interface for it
    textgen._parse_and_convert = parsed  # noqa: SLF001
    textgen.copy_context = copied
    textgen.Rule = SimpleNamespace(parse_conjunctive_query=functools.cache(Rule.parse_conjunctive_query))


class _Shelf:
    """The most recently played games of a process."""

    def __init__(self, folder: Path | None) -> None:
        cache_parsed_grammar()
        self._folder = folder
        self._library = library()
        Game.of(game_maker.make(_WARM), self._library)  # runs all late imports now
        self._games: OrderedDict[str, Game] = OrderedDict()
        self._playing: Game | None = None

    def play(self, name: str, actions: Sequence[str]) -> dict[str, Any]:
        """Return the result of ``actions`` in a game."""
        game = self._games.pop(name, None) or Game.of(self._data(name), self._library)
        self._games[name] = game
        if len(self._games) > _KEPT:
            self._games.popitem(last=False)
        if self._playing is not None and self._playing is not game:
            self._playing.reached = None
        self._playing = game
        return game.at(tuple(actions))

    def _data(self, name: str) -> Mapping[str, Any]:
        if self._folder is None:
            return game_maker.make(name)
        try:
            data = json.loads((self._folder / name).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise GameError(f"the file {name} is not a game: {error}") from None
        except OSError as error:
            raise GameError(f"the game {name} cannot be read: {error.strerror}") from None
        if not isinstance(data, dict):
            raise GameError(f"the file {name} is not a game: it is not a mapping")
        return data


def serve(argument: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Handler of ``worker_pool``; :class:`recipec.runtime.environment.workers.Workers` documents the protocol.

    A task names its game: ``split/seed/index/goal``, or a file below the ``folder`` of the argument.
    """
    folder = argument.get("folder")
    shelf = _Shelf(Path(folder) if folder else None)

    def answer(request: Mapping[str, Any]) -> Any:
        if "ready" in request:
            return True
        observed = shelf.play(str(request["task"]["game"]), request["actions"])
        return {
            "observation": observed["text"],
            "goal": goal_of(observed["text"]),
            "actions": observed["actions"],
            "reward": WON if observed["won"] else 0.0,
            "terminated": observed["won"],
        }

    return answer


def goal_of(text: str) -> str:
    r"""Find the task in what a game shows first.

    >>> goal_of("You are in a room.\n\nYour task is to: put a mug in desk.")
    'put a mug in desk.'
    """
    return text.partition(_TASK)[2].strip()
