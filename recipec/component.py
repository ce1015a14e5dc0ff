"""Components: a spec without torch that declares what it needs, and the name of the function that does it.

``@component`` joins the two by one string.  A requirement is data, never code:

* always: ``"tokens_RT"``;
* when a parameter is set, or has a value: ``when("beta", "ref_logprob_RT")``, ``when("rows", "step", "state_R")``;
* named by a parameter: a parameter of type ``SignalRef`` fills the parameter with its stem, so ``group: by_tree_R``
  is what the parameter ``group_R`` receives.
"""
# Annotations here are no strings (`from __future__ import annotations`): pydantic evaluates those of every base class
# again for each component, and compiling the strings would be a fifth of the time to import one.

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoints, entry_points
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.fields import FieldInfo

from recipec.signals import SIGNALS, split_axes

ENTRY_POINTS = "recipec.components"
PARTS = ("policy", "attention", "rollout_engine", "environment", "knowledge", "sampler", "optimizer", "train_engine")
"""What of a stage an implementation may be built from; each is the node of that name."""


class _Ref:
    """Marks a parameter that names a signal."""


class _Path:
    """Marks a parameter that names a file, relative to the file that says it."""


class _Inline:
    """Marks a file name in place of which the text of the file may stand."""


class _Origin:
    """Marks a parameter that names a file only when its value begins with ``./`` or ``../``."""


SignalRef = Annotated[str, _Ref()]
PathRef = Annotated[str, _Path(), Field(min_length=1)]
TemplateRef = Annotated[str, _Path(), _Inline(), Field(min_length=1)]
OriginRef = Annotated[str, _Origin(), Field(min_length=1)]
_SET = object()


@dataclass(frozen=True, slots=True)
class When:
    """A signal that is required or provided only while a parameter is set, or has one value."""

    param: str
    signal: str
    value: object = _SET

    @property
    def any_value(self) -> bool:
        """Whether it is enough that the parameter is set."""
        return self.value is _SET

    def holds(self, spec: BaseModel) -> bool:
        """Whether the condition is true of ``spec``."""
        have = getattr(spec, self.param)
        return bool(have) if self.any_value else bool(have == self.value)


def when(param: str, *rest: Any) -> When:
    """Declare a conditional signal: ``when(parameter, signal)`` or ``when(parameter, value, signal)``."""
    return When(param, rest[0]) if len(rest) == 1 else When(param, rest[1], rest[0])


class Need(NamedTuple):
    """One requirement of one spec: the signal, the parameter it fills, the parameter that requires it (or none)."""

    signal: str
    parameter: str
    param: str | None = None


def is_path(info: FieldInfo) -> bool:
    """Whether a parameter names a file."""
    return _marked(info, _Path)


def names_file(info: FieldInfo, value: str) -> bool:
    """Whether the value of a parameter is the name of a file, and not a template itself."""
    return _marked(info, _Path) and not (_marked(info, _Inline) and is_inline(value))


def is_inline(value: str) -> bool:
    r"""Whether a text is a Jinja template and not the name of a file.

    >>> is_inline("prompts/sum.j2"), is_inline("Q: {{ question }}"), is_inline("Answer:\n")
    (False, True, True)
    """
    return any(mark in value for mark in ("{{", "{%", "{#", "\n"))


def is_origin(info: FieldInfo) -> bool:
    """Whether a parameter names weights or a tokenizer, possibly a directory."""
    return _marked(info, _Origin)


def is_signal(info: FieldInfo) -> bool:
    """Whether a parameter names a signal."""
    return _marked(info, _Ref)


def _marked(info: FieldInfo, mark: type) -> bool:
    """Look for a mark on the parameter itself and, where it is optional, on its choices."""
    marks = [*info.metadata]
    for choice in get_args(info.annotation):
        marks += getattr(choice, "__metadata__", ())
    return any(isinstance(m, mark) for m in marks)


def param(default: Any, doc: str, *, unit: str = "", **constraints: Any) -> Any:
    """Declare a parameter: default (``...`` if it must be given), a sentence, a unit, pydantic constraints."""
    extra: dict[str, JsonValue] | None = {"unit": unit} if unit else None
    if callable(default):
        return Field(default_factory=default, description=doc, json_schema_extra=extra, **constraints)
    return Field(default, description=doc, json_schema_extra=extra, **constraints)


class Section(BaseModel):
    """A mapping of the recipe with known keys; frozen, and nothing unknown is let in."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True, allow_inf_nan=False)
    written_inside: ClassVar[Mapping[str, str]] = {}
    """Fields that a file writes inside the mapping of another field."""

    def plain(self, *, minimal: bool = True) -> dict[str, Any]:
        """Return the section as a file would say it: only what differs from its default, or everything that is set.

        A ``type`` is always included; ``None`` is left out, like ``null`` in a file.

        >>> from recipec.spec.loss import Dpo
        >>> Dpo(beta=0.2).plain()
        {'type': 'dpo', 'beta': 0.2}
        """
        mapping = {}
        for name, info in sorted(type(self).model_fields.items(), key=lambda field: field[0] != "type"):
            value = getattr(self, name)
            default = not info.is_required() and value == info.get_default(call_default_factory=True)
            if value is not None and not (minimal and default and name != "type"):
                mapping[info.alias or name] = _plain(value, minimal=minimal)
        for name, around in self.written_inside.items():
            if name in mapping:
                inner = {name: mapping.pop(name), **mapping.get(around, {})}
                mapping |= {around: inner} if mapping.get(around) else {}
        return mapping


def _plain(value: Any, *, minimal: bool) -> Any:
    if isinstance(value, Section):
        return value.plain(minimal=minimal)
    if isinstance(value, dict):
        return {key: _plain(item, minimal=minimal) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, minimal=minimal) for item in value]
    return value


class Component(Section):
    """What may fill a slot of a stage: parameters, and a contract in signals.

    The base class of a slot (``Advantage``, ``Sampler``, ...) sets ``slot``, and has a property or a method for each
    fact about a component that checks, plans and runs read. So nothing else needs to know a component by its name.
    """

    slot: ClassVar[str] = ""
    packages: ClassVar[Mapping[str, str]] = {}
    """Packages that the component needs in addition to those of recipec: name on PyPI to top-level module."""
    extra: ClassVar[str] = ""
    """The extra of recipec that installs ``packages``."""
    data_packages: ClassVar[tuple[str, ...]] = ()
    """Packages with files that are read as data, so that a new version of them makes another run."""
    preflight: ClassVar[str] = ""
    """Function ``(spec, request)`` that yields a diagnostic for everything a run would lack; called before a model is
    loaded, with a :class:`recipec.host.preflight.PreflightRequest`."""
    user_code: ClassVar[Literal["", "function", "class", "tool"]] = ""
    """What of the user's own files does the work; the component then has ``user_names``."""
    always_lowered: ClassVar[tuple[str, ...]] = ()
    """Parameters of every component of the slot that the compiler turns into nodes of their own."""
    if TYPE_CHECKING:  # set by `component`; pydantic would evaluate these annotations again for each component
        type_name: ClassVar[str]
        impl: ClassVar[str]
        state: ClassVar[bool]
        lowered: ClassVar[tuple[str, ...]]
        uses: ClassVar[tuple[str, ...]]
        draws: ClassVar[bool]
        _requires: ClassVar[tuple[str | When, ...]]
        _provides: ClassVar[tuple[str | When, ...]]
        _refs: ClassVar[tuple[str, ...]]

    @classmethod
    def available(cls) -> bool:
        """Whether this version can run the component; otherwise it is declared for checking only."""
        return bool(cls.impl)

    @classmethod
    def declares(cls) -> tuple[str, ...]:
        """Every signal the component could provide, whatever its parameters: what a broken one still counts for."""
        return tuple(p if isinstance(p, str) else p.signal for p in cls._provides)

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """The column parameters of the implementing function."""
        names = dict.fromkeys(r if isinstance(r, str) else r.signal for r in cls._requires)
        return tuple(n for n in names if n not in SIGNALS or SIGNALS[n].kind in {"column", "scalar"})

    def requires(self) -> Iterator[Need]:
        """Yield what this spec needs, given its parameters."""
        named = set()
        for need in self._requires:
            if isinstance(need, When):
                if need.holds(self):
                    yield Need(need.signal, need.signal, need.param)
                continue
            stem = split_axes(need)[0]
            if stem in self._refs:
                named.add(stem)
                yield Need(getattr(self, stem), need, stem)
            else:
                yield Need(need, need)
        for ref in self._refs:
            if ref not in named:
                yield Need(getattr(self, ref), ref, ref)

    def needs(self, *signals: str) -> bool:
        """Whether this spec needs one of the signals, given its parameters."""
        return any(need.signal in signals for need in self.requires())

    def provides(self) -> tuple[str, ...]:
        """The signals this spec provides, given its parameters."""
        return tuple(
            p if isinstance(p, str) else p.signal for p in self._provides if isinstance(p, str) or p.holds(self)
        )

    def params(self) -> dict[str, Any]:
        """The keyword arguments of the implementing function."""
        skip = {"type", *self.lowered, *self._refs}
        return {name: getattr(self, name) for name in type(self).model_fields if name not in skip}

    def user_names(self) -> tuple[str, ...]:
        """Return the names of the user's own functions or classes, where ``user_code`` says that there are some."""
        return ()

    @classmethod
    def distributions(cls) -> tuple[str, ...]:
        """Return the installed packages that bring the component; none for a component of recipec."""
        if cls.__module__.partition(".")[0] == __name__.partition(".")[0]:
            return ()
        entries = entry_points(group=ENTRY_POINTS, name=f"{cls.slot}.{cls.type_name}")
        return tuple(entry.dist.name for entry in entries if entry.dist is not None)

    def load(self) -> Callable[..., Any]:
        """Import the implementing function or class: the only door through which torch arrives."""
        return load_object(self.impl)


def load_object(name: str) -> Callable[..., Any]:
    """Import ``module:attribute``."""
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def texts(section: Section) -> Iterator[tuple[str, FieldInfo, str]]:
    """Yield dotted key, field and value of every parameter that holds text, also inside lists and sections."""
    for name, info in type(section).model_fields.items():
        key, value = info.alias or name, getattr(section, name)
        if isinstance(value, Section):
            yield from ((f"{key}.{inside}", about, text) for inside, about, text in texts(value))
        elif isinstance(value, dict):
            for part, item in value.items():
                if isinstance(item, Section):
                    yield from ((f"{key}.{part}.{inside}", about, text) for inside, about, text in texts(item))
        several = isinstance(value, tuple)
        for place, text in enumerate(value if several else (value,)):
            if isinstance(text, str) and text:
                yield f"{key}.{place}" if several else key, info, text


_REGISTRY: dict[str, dict[str, type[Component]]] = {}
C = TypeVar("C", bound=Component)


def component(
    slot: str,
    *,
    requires: tuple[str | When, ...] = (),
    provides: tuple[str | When, ...] = (),
    impl: str = "",
    lowered: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
    draws: bool = False,
    state: bool = False,
) -> Callable[[type[C]], type[C]]:
    """Register a spec under its slot and its ``type``.

    ``lowered`` names the parameters that the compiler turns into nodes, so that the function never sees them.
    ``uses`` names the parts of the stage (``PARTS``) that the implementing class is built from, by keyword; a part that
    the stage lacks is ``None``.  ``draws`` says that a call takes ``step`` and ``attempt``, which key its random draws.
    ``state`` says that the implementing class has ``state()`` and ``load()``.
    An ``impl`` of ``""`` declares a component of a later version: it is checked, and refused with RC501. An engine is
    RC509, a warning, since the recipe can be planned without it; ``run`` refuses it with RC510.

    Raises:
        TypeError: the name is taken, undocumented, or a signal is not in the table; or the class does not subclass the
            base class of its slot, or leaves one of its abstract methods out.
    """

    def register(cls: type[C]) -> type[C]:
        name = str(cls.model_fields["type"].default)
        refs = tuple(k for k, f in cls.model_fields.items() if is_signal(f))
        where = f"{slot} `{name}`"
        _well_formed(cls, slot, name)
        for need in (*requires, *provides):
            signal = need if isinstance(need, str) else need.signal
            if signal not in SIGNALS and split_axes(signal)[0] not in refs:
                raise TypeError(f"{where} names the unknown signal `{signal}`")
        if unknown := set(uses) - set(PARTS):
            raise TypeError(f"{where} uses {', '.join(sorted(unknown))}; a stage has {', '.join(PARTS)}")
        cls.type_name, cls.impl, cls.state = name, impl, state
        cls.lowered = tuple(dict.fromkeys((*cls.always_lowered, *lowered)))
        cls.uses, cls.draws = uses, draws
        cls._requires, cls._provides, cls._refs = requires, provides, refs
        _REGISTRY.setdefault(slot, {})[name] = cls
        return cls

    return register


def _well_formed(cls: type[Component], slot: str, name: str) -> None:
    """Refuse a class that could not fill its slot."""
    where = f"{slot} `{name}`"
    if name in _REGISTRY.get(slot, {}):
        raise TypeError(f"{where} is registered twice")
    if cls.slot != slot:
        raise TypeError(f"{where} must subclass the base class of its slot, in `recipec.spec.{slot}`")
    if missing := sorted(cls.__abstractmethods__):
        raise TypeError(f"{where} does not define {', '.join(f'`{method}`' for method in missing)}")
    if not inspect.cleandoc(cls.__doc__ or ""):
        raise TypeError(f"{where} has no docstring")
    for field, info in cls.model_fields.items():
        if field != "type" and not info.description:
            raise TypeError(f"{where}: the parameter `{field}` has no description")


def components_of(slot: str) -> dict[str, type[Component]]:
    """Return the components of a slot by name, importing only that slot's spec file.

    Those of installed packages are among them once a recipe has named them; see :func:`installed_components`.
    """
    importlib.import_module(f"recipec.spec.{slot}")
    return _REGISTRY.get(slot, {})


@functools.lru_cache(maxsize=4)  # a scan takes 40 ms, and a recipe may name many unknown components
def _entries(path: tuple[str, ...]) -> EntryPoints:  # noqa: ARG001 - what is installed depends on it
    return entry_points(group=ENTRY_POINTS)


def find_component(slot: str, name: str) -> type[Component] | None:
    """Return the component, imported from an installed package where ours do not have it; its exceptions are raised."""
    if name not in components_of(slot):
        for entry in _entries(tuple(sys.path)).select(name=f"{slot}.{name}"):
            entry.load()
    return components_of(slot).get(name)


def component_names(slot: str) -> list[str]:
    """Return the names of a slot's components, and of those of installed packages, which are not imported."""
    prefix = f"{slot}."
    named = sorted(entry.name for entry in _entries(tuple(sys.path)) if entry.name.startswith(prefix))
    return list(dict.fromkeys((*components_of(slot), *(name.removeprefix(prefix) for name in named))))


def installed_components(slot: str) -> dict[str, type[Component] | Exception]:
    """Return the components of a slot by name, importing those of installed packages.

    In place of a component that cannot be imported there is the reason.
    """
    classes: dict[str, type[Component] | Exception] = {}
    for name in component_names(slot):
        try:
            classes[name] = find_component(slot, name) or LookupError("the package does not define it")
        except Exception as error:  # noqa: BLE001 - a package may raise anything while it is imported
            classes[name] = error
    return classes
