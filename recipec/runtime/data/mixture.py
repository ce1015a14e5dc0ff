"""Several files as one source of tasks or examples: each is read as it is, and their rows are shuffled together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from recipec.diagnostics.model import Diagnostic
from recipec.host.preflight import PreflightRequest
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.data import image_preflight
from recipec.runtime.data.sources import Encoded, File, Source
from recipec.runtime.protocols import Environment, Policy
from recipec.runtime.rng import rng_for
from recipec.spec import data as specs


class Mixture(Source):
    """The rows of several files; see :class:`recipec.spec.data.Mix`."""

    def __init__(
        self, spec: specs.Mix, context: StageContext, *, policy: Policy, environment: Environment | None = None
    ) -> None:
        super().__init__(spec, context, policy=policy, environment=environment)
        self.spec = spec
        self.shown = f"the mixture of {', '.join(spec.sources)}"
        self.sources = {
            name: File(part, context, policy=policy, environment=environment) for name, part in spec.sources.items()
        }
        self._place: dict[int, tuple[str, int]] = {}

    def encoded(self) -> list[Encoded]:
        """Read every source, bounded as it says, and number the rows of all of them."""
        mixed: list[Encoded] = []
        self._place = {}
        for name, source in self.sources.items():
            examples = source.read(self.kind)
            self.left_out, self.truncated = self.left_out + source.left_out, self.truncated + source.truncated
            first = len(self._place)
            self._place |= {first + i: source.place(row[0]) for i, row in enumerate(examples)}
            numbered = [_numbered(row, first + i, name) for i, row in enumerate(examples)]
            mixed += self._taken(name, numbered)
        return mixed[: self.spec.limit]

    def _taken(self, name: str, rows: list[Encoded]) -> list[Encoded]:
        """Take rows as often as the weight of their source says; of what is not whole, some at random."""
        weight = self.spec.sources[name].weight
        full_passes = int(weight)
        some = rng_for(self.context.seed, "mix", name).permutation(len(rows))[
            : round((weight - full_passes) * len(rows))
        ]
        return [*rows * full_passes, *(rows[i] for i in sorted(some.tolist()))]

    def place(self, task: Task) -> tuple[str, int]:
        """Where a task's row stands: file and number, for messages."""
        return self._place[task.id]


def _numbered(row: Encoded, number: int, name: str) -> Encoded:
    task, *examples = row
    columns = {"data_source": name, **task.columns}
    return replace(task, id=number, columns=columns), *(replace(one, prompt_id=number) for one in examples)


def check(spec: specs.Mix, request: PreflightRequest) -> Iterator[Diagnostic]:
    """Yield the first image of each source that cannot be opened, where a policy reads them."""
    for part in spec.sources.values():
        yield from image_preflight.check(part, request)


def digests(spec: specs.Mix, root: Path) -> dict[str, str]:
    """Hash the images that the rows of each source name."""
    return {
        name: digest for part in spec.sources.values() for name, digest in image_preflight.digests(part, root).items()
    }
