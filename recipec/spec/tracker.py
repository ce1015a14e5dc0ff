"""Trackers: services and stores that get the metrics of a run, besides `metrics.jsonl` and TensorBoard."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recipec.component import Component, component, param

_NAME = "Project that the run belongs to; the name of the recipe if omitted."


class Tracker(Component):
    """Base class of trackers; an implementation is a :class:`recipec.runtime.logging.tracker.Tracker`."""

    slot: ClassVar[str] = "tracker"


@component("tracker", impl="recipec.runtime.logging.wandb_tracker:WandbTracker")
class Wandb(Tracker):
    """Send metrics to Weights & Biases: one run for each stage, in a group with the name of the run directory.

    The API key is that of `wandb login` or of the variables that the package reads.

    References:
        Weights & Biases, `wandb.init <https://docs.wandb.ai/ref/python/init>`_.
    """

    packages: ClassVar[Mapping[str, str]] = {"wandb": "wandb"}
    extra: ClassVar[str] = "wandb"
    preflight: ClassVar[str] = "recipec.runtime.logging.wandb_tracker:check"

    type: Literal["wandb"] = "wandb"
    project: str | None = param(None, _NAME, min_length=1)
    entity: str | None = param(None, "User or team; that of the login if omitted.", min_length=1)
    mode: Literal["online", "offline"] = param(
        "online", "Send metrics during the run, or write them to `wandb/` in the run directory, for `wandb sync`."
    )


@component("tracker", impl="recipec.runtime.logging.mlflow_tracker:MlflowTracker")
class Mlflow(Tracker):
    """Send metrics to an MLflow server or write them to a local store: one MLflow run for each stage.

    User name, password or token are those of the variables that the package reads.

    References:
        MLflow, `Tracking <https://mlflow.org/docs/latest/ml/tracking/>`_.
    """

    packages: ClassVar[Mapping[str, str]] = {"mlflow": "mlflow"}
    extra: ClassVar[str] = "mlflow"
    preflight: ClassVar[str] = "recipec.runtime.logging.mlflow_tracker:check"

    type: Literal["mlflow"] = "mlflow"
    experiment: str | None = param(
        None, "Experiment that the runs belong to; the name of the recipe if omitted.", min_length=1
    )
    uri: Annotated[str, Field(pattern=r"^[^@]+$")] | None = param(
        None,
        "Address of the server, or of a local store such as `sqlite:///mlflow.db`; that of MLflow's own variables if "
        "omitted. It has no user name or password.",
    )


@component("tracker", impl="recipec.runtime.logging.trackio_tracker:TrackioTracker")
class Trackio(Tracker):
    """Write metrics to the local store of Trackio: one Trackio run for each stage, grouped by run directory.

    `trackio show` displays them, `trackio sync` copies them to a Space.

    References:
        Hugging Face, `Trackio <https://huggingface.co/docs/trackio>`_.
    """

    packages: ClassVar[Mapping[str, str]] = {"trackio": "trackio"}
    extra: ClassVar[str] = "trackio"

    type: Literal["trackio"] = "trackio"
    project: str | None = param(None, _NAME, min_length=1)
