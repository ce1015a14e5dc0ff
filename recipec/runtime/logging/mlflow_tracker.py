"""Metrics of a stage as a run of MLflow."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from recipec.diagnostics.errors.run_progress import tracker_credentials, tracker_unreachable
from recipec.diagnostics.model import Diagnostic
from recipec.host.preflight import PreflightRequest
from recipec.runtime.logging.tracker import Tracker
from recipec.spec.tracker import Mlflow

_KEY = "recipec.key"
"""Tag by which a continued stage finds its MLflow run."""
_STEP = "step"
"""Metric that every line of the journal writes, from which the last step is read."""
_LONGEST = 6000
"""Characters of a parameter's value that MLflow takes."""
_MOST = 100
"""Parameters of one request."""
_TIMEOUT = 5.0  # seconds
_CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


class MlflowTracker(Tracker):
    """Sends metrics to the MLflow run with the key of the stage; steps that it has are not sent again."""

    _client: Any = None
    _run: str = ""

    def begin(self) -> int:
        """Find the run of the stage, or create it with the settings as parameters."""
        from mlflow import MlflowClient  # noqa: PLC0415 - seconds, and an extra

        self._client = client = MlflowClient(tracking_uri=self.spec.uri)
        name = self.spec.experiment or self.stage.recipe
        experiment = client.get_experiment_by_name(name)
        number = client.create_experiment(name) if experiment is None else experiment.experiment_id
        runs = client.search_runs([number], filter_string=f"tags.`{_KEY}` = '{self.stage.key}'")
        if not runs:
            tags = {_KEY: self.stage.key, "recipec.run": self.stage.folder.name, "recipec.stage": self.stage.stage}
            self._run = client.create_run(number, run_name=self.stage.name, tags=tags).info.run_id
            self._write_settings()
            return -1
        self._run = runs[0].info.run_id
        client.update_run(self._run, status="RUNNING")
        return max((one.step for one in client.get_metric_history(self._run, _STEP)), default=-1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step in one request."""
        from mlflow.entities import Metric  # noqa: PLC0415 - as above

        now = int(time.time() * 1000)
        values = {**metrics, _STEP: float(step)}
        self._client.log_batch(self._run, [Metric(allowed(name), value, now, step) for name, value in values.items()])

    def close(self) -> None:
        """Mark the run as ended; a continued stage opens it again."""
        if self._run:
            self._client.set_terminated(self._run)

    def _write_settings(self) -> None:
        from mlflow.entities import Param  # noqa: PLC0415 - as above

        params = [Param(allowed(key), str(value)[:_LONGEST]) for key, value in self.stage.settings.items()]
        for first in range(0, len(params), _MOST):
            self._client.log_batch(self._run, params=params[first : first + _MOST])


def allowed(name: str) -> str:
    """Return a name with the characters that MLflow takes.

    >>> allowed("eval/held_out/pass@8")
    'eval/held_out/pass_8'
    """
    return re.sub(r"[^\w\-. :/]", "_", name)


def check(spec: Mlflow, _request: PreflightRequest) -> Iterator[Diagnostic]:
    """Yield RC982 for an address that credentials are not meant for, RC972 for a server that does not answer."""
    if spec.uri is None or not spec.uri.startswith(("http://", "https://")):
        return  # a local store, or the address of the user's own environment
    secret = next((name for name in _CREDENTIALS if os.environ.get(name)), None)
    if secret is not None and os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/") != spec.uri.rstrip("/"):
        yield tracker_credentials(spec.type_name, spec.uri, secret)
        return
    address = f"{spec.uri.rstrip('/')}/health"
    try:
        with urlopen(address, timeout=_TIMEOUT):  # noqa: S310 - http or https
            pass
    except (URLError, HTTPException, OSError, ValueError) as error:
        yield tracker_unreachable(spec.type_name, address, str(error))
