"""Metrics of a stage as a run of Weights & Biases."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from recipec.diagnostics.errors.run_progress import tracker_login
from recipec.diagnostics.model import Diagnostic
from recipec.host.preflight import PreflightRequest
from recipec.runtime.logging.tracker import Tracker
from recipec.spec.tracker import Wandb


class WandbTracker(Tracker):
    """Sends metrics, or writes them to files that `wandb sync` sends.

    Offline, files of a run that was killed are deleted and all metrics are written again. Online, W&B resumes the run
    with the same id and says at which step; steps that it has are not sent again.
    """

    _run: Any = None

    def begin(self) -> int:
        """Open the run."""
        import wandb  # noqa: PLC0415 - it reads the environment, and is an extra

        offline = self.spec.mode == "offline"
        if offline:
            for old in (self.stage.folder / "wandb").glob(f"offline-run-*-{self.stage.key}"):
                shutil.rmtree(old, ignore_errors=True)
        self._run = wandb.init(
            id=self.stage.key,
            project=self.spec.project or self.stage.recipe,
            entity=self.spec.entity,
            name=self.stage.name,
            group=self.stage.folder.name,
            job_type=self.stage.stage,
            config=dict(self.stage.settings),
            dir=str(self.stage.folder),
            mode=self.spec.mode,
            resume=None if offline else "allow",
            reinit="create_new",  # a process may have runs of its own
            settings=wandb.Settings(silent=True, console="off", disable_code=True, disable_git=True),
        )
        return -1 if offline else int(self._run.step) - 1

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Send what is left, and end the run."""
        if self._run is not None:
            self._run.finish()


def check(spec: Wandb, _request: PreflightRequest) -> Iterator[Diagnostic]:
    """Yield RC971 where metrics are to be sent without an API key."""
    import wandb  # noqa: PLC0415 - as above

    if spec.mode == "online" and not wandb.login(prompt=False):
        yield tracker_login(spec.type_name, "`wandb login`, or `mode: offline`")
