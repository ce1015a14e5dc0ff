"""Metrics of a stage as a run of Trackio's local store."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from typing import Any

from recipec.runtime.logging.tracker import Tracker

_KEY = "recipec_key"
"""Entry of a Trackio run's configuration by which a continued stage finds it."""


class TrackioTracker(Tracker):
    """Writes metrics to the local store; a stage that is continued deletes its run and writes all of it again."""

    _run: Any = None

    def begin(self) -> int:
        """Delete what an earlier start of the stage wrote, and open a run.

        Raises:
            RuntimeError: Trackio's variables name a Space or a server, where earlier steps cannot be deleted.
        """
        import trackio  # noqa: PLC0415 - an extra

        project = self.spec.project or self.stage.recipe
        with redirect_stdout(sys.stderr):  # results go to stdout, and Trackio greets there
            with suppress(ValueError):  # there is no such project yet
                for run in list(trackio.Api().runs(project)):
                    if (run.config or {}).get(_KEY) == self.stage.key:
                        run.delete()
            self._run = trackio.init(
                project=project,
                name=self.stage.name,
                group=self.stage.folder.name,
                config={**self.stage.settings, _KEY: self.stage.key},
                embed=False,
            )
        if self._run.url is not None:
            raise RuntimeError("TRACKIO_SPACE_ID or TRACKIO_SERVER_URL is set; `trackio sync` copies a local run")
        return -1

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Write what is left."""
        import trackio  # noqa: PLC0415 - as above

        if self._run is not None:
            with redirect_stdout(sys.stderr):
                trackio.finish()
