"""Household games played through TextWorld's PDDL engine, in a process that may be killed.

The engine is the package's own.  What is ours makes it fast: a game is translated once and started again from the
translation, commands are derived once for each operator, and replayed actions bring about no text.
Facts are told in a fixed order, so that the same state of a household reads the same however it was reached.
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
from textworld.envs.pddl import PddlEnv, textgen  # noqa: E402
from textworld.envs.pddl import logic as pddl  # noqa: E402
from textworld.logic import Action, Placeholder, Proposition, Rule, Variable  # noqa: E402

WON = 10.0
"""Reward of a task fulfilled, as in GiGPO's released environments."""
_TASK = "Your task is to: "
_KEPT = 24
"""Loaded games that a process keeps, some 5 MB each."""
_MOVES = 1 << 14
"""Remembered moves of a game, some 1 KB each."""
_WARM = "train/0/0/pick_and_place_simple"


class _State(pddl.PddlState):  # type: ignore[misc]
    """State of a game whose translation is kept, so that it can start again at once."""

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
            except ValueError:  # a type that every logic has
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
        self._vars_by_type = defaultdict(set, {kind: set(found) for kind, found in kept[2].items()})
        self._var_counts = Counter(kept[3])
        self._ordered.clear()
        self.changed.clear()

    def facts_with_signature(self, sig: Any) -> tuple[Any, ...]:
        """Return the facts of one kind in a fixed order."""
        if sig not in self._ordered:
            self._ordered[sig] = tuple(sorted(self._facts.get(sig, ()), key=str))
        return self._ordered[sig]

    def add_fact(self, prop: Any) -> None:
        """Add a fact; what was ordered is out of date."""
        self._ordered.pop(prop.signature, None)
        super().add_fact(prop)

    def remove_fact(self, prop: Any) -> None:
        """Remove a fact; what was ordered is out of date."""
        self._ordered.pop(prop.signature, None)
        super().remove_fact(prop)

    def apply(self, action: Action) -> Any:
        """Take an action, and note what is now other than in the beginning."""
        changes = super().apply(action)
        for fact in changes:
            name = str(fact.negate() if fact.is_negation else fact)
            self.changed[name] = not fact.is_negation
            if (name in self._stated) == self.changed[name]:
                del self.changed[name]
        return changes

    def all_applicable_actions(self) -> list[Action]:
        """List the actions that are possible now; each is made once and kept."""
        count = self.downward_lib.get_applicable_operators_count()
        found = (fast_downward.Operator * count)()
        self.downward_lib.get_applicable_operators(found)
        self._operators.update((operator.id, operator) for operator in found)
        first: dict[str, int] = {}
        for operator in found:
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
        told = [self._told(atom) for atom in self.task.init]
        return [f for f in told if f] + [f for f in (a.get_fact(self.name2type) for a in atoms) if not f.is_negation]

    def _told(self, atom: Any) -> Proposition | None:
        """Return a fact that the problem states, where it is no number and no equality."""
        if getattr(atom, "predicate", "=") == "=":
            return None
        return Proposition(atom.predicate, [Variable(name, self.name2type[name]) for name in atom.args])

    def _copied(self) -> tuple[Any, ...]:
        facts = {sign: set(found) for sign, found in self._facts.items()}
        kinds = {kind: set(found) for kind, found in self._vars_by_type.items()}
        return facts, dict(self._vars_by_name), kinds, Counter(self._var_counts)


@dataclass(frozen=True, slots=True)
class _Move:
    """What an action brings in a state; no action where it is not possible there."""

    action: Action | None
    state: int
    told: dict[str, Any]


class Game(PddlEnv):  # type: ignore[misc]
    """One loaded game; all games of a process share one library, which holds the state of one of them.

    What an action brings in a state is remembered, so that only what no episode did before reaches the engine.

    Example: ``Game.of(alfworld_maker.make("train/0/0/pick_and_place_simple"), library())``.
    """

    def __init__(self, library: Any) -> None:
        textworld.Environment.__init__(self, textworld.EnvInfos(admissible_commands=True, won=True))
        self.downward_lib = library
        self.reached: tuple[str, ...] | None = None
        """Actions that led to where the library is; None where another game has it."""
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
        """Tell what the last of ``actions``, taken one after another from the beginning, brings."""
        if len(self._moves) > _MOVES:
            self._moves.clear()
            self._states.clear()
        if self._first is None:
            self._restart()
            self._first = self._told("#intro#", {})
        told, state, known = self._first, 0, 0
        for known, action in enumerate((*actions, "")):  # noqa: B007 - how far it came is what we want
            move = self._moves.get((state, action))
            if move is None:
                break
            told, state = move.told, move.state
        for taken in range(known, len(actions)):
            told = self._new(actions[: taken + 1])
        return told

    def _new(self, actions: tuple[str, ...]) -> dict[str, Any]:
        """Take an action that was never taken in its state."""
        if self.reached != actions[:-1]:
            self._restart()
            self._again(actions[:-1])
        state = self._state()
        action = self._possible().get(actions[-1])
        if action is None:
            told = {**self._told("", {}), "text": "Nothing happens."}
        else:
            self.reached = None
            self._pddl_state.apply(action)
            told = self._told(action.feedback_rule, action.mapping)
        self._moves[state, actions[-1]] = _Move(action, self._state(), told)
        self.reached = actions
        return told

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
        """Number the state that the library is in; 0 is the beginning."""
        changed = frozenset(self._pddl_state.changed.items())
        return self._states.setdefault(changed, len(self._states))

    def _possible(self) -> dict[str, Action]:
        """Return the actions that are possible now, by their commands."""
        found: dict[str, Action] = {}
        for action in self._pddl_state.all_applicable_actions():
            found.setdefault(self._command(action), action)
        return found

    def _told(self, rule: str, mapping: Mapping[Any, Any]) -> dict[str, Any]:
        """Say what a rule of the grammar tells, what can be done, and whether the task is fulfilled."""
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
        """Word an action once: what a command names does not move in these games."""
        key = " ".join((action.name, *(variable.name for variable in action.mapping.values())))
        if key not in self._commands:
            mapping = {name: info.name for name, info in self._entity_infos.items()}
            action.command_template = self._logic.grammar.derive(action.command_template, self._context(action.mapping))
            self._commands[key] = str(action.format_command(mapping))
        return self._commands[key]


def library() -> Any:
    """Load the planner's library where it lies: one process plays with one; the package's own loader makes a copy."""
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


def quicken() -> None:
    """Make the package's grammar remember what it parsed, and copy no more of a context than it changes."""

    def parsed(text: str, **options: Any) -> Any:
        return copy.deepcopy(once(text, **options))  # a derivation writes into the symbols

    def copied(context: Mapping[str, Any]) -> dict[str, Any]:
        return {**context, "variables": {**context["variables"]}, "mapping": {**context["mapping"]}}

    once = functools.cache(textgen._parse_and_convert)  # noqa: SLF001 - there is no other way in
    textgen._parse_and_convert = parsed  # noqa: SLF001
    textgen.copy_context = copied
    textgen.Rule = SimpleNamespace(parse_conjunctive_query=functools.cache(Rule.parse_conjunctive_query))


class _Shelf:
    """Loaded games of a process, the ones played lately."""

    def __init__(self, folder: Path | None) -> None:
        quicken()
        self._folder = folder
        self._library = library()
        Game.of(game_maker.make(_WARM), self._library)  # whatever is imported late is imported now
        self._games: OrderedDict[str, Game] = OrderedDict()
        self._playing: Game | None = None

    def play(self, name: str, actions: Sequence[str]) -> dict[str, Any]:
        """Say where ``actions`` lead in a game."""
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
            raise GameError(f"the file {name} is no game: {error}") from None
        except OSError as error:
            raise GameError(f"the game {name} cannot be read: {error.strerror}") from None
        if not isinstance(data, dict):
            raise GameError(f"the file {name} is no game: it holds no mapping")
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
        told = shelf.play(str(request["task"]["game"]), request["actions"])
        return {
            "observation": told["text"],
            "goal": goal_of(told["text"]),
            "actions": told["actions"],
            "reward": WON if told["won"] else 0.0,
            "terminated": told["won"],
        }

    return answer


def goal_of(text: str) -> str:
    r"""Find the task in what a game shows first.

    >>> goal_of("You are in a room.\n\nYour task is to: put a mug in desk.")
    'put a mug in desk.'
    """
    return text.partition(_TASK)[2].strip()
