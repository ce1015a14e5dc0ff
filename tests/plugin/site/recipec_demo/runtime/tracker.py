"""A tracker that writes the numbers of steps into a file."""

import math

from recipec.runtime.logging.tracker import Tracker


class StepFile(Tracker):
    """Appends; a step that the file has is not written again."""

    @property
    def path(self):
        """The file of the stage."""
        return self.stage.folder / f"{self.stage.stage}{self.spec.ending}"

    def begin(self) -> int:
        """Return the last number in the file."""
        return int(self.path.read_text().split()[-1]) if self.path.exists() else -1

    def write(self, step, metrics) -> None:
        """Append a number."""
        assert all(map(math.isfinite, metrics.values()))
        with self.path.open("a") as stream:
            stream.write(f"{step}\n")

    def close(self) -> None:
        """Everything is written."""
