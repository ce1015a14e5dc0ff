"""A tracker that writes the numbers of steps into a file."""

from typing import Literal

from recipec.component import component, param
from recipec.spec.tracker import Tracker


@component("tracker", impl="recipec_demo.runtime.tracker:StepFile")
class StepFileTracker(Tracker):
    """Write the number of each step into a file of the run directory."""

    type: Literal["step_file"] = "step_file"
    ending: str = param(".txt", "Ending of the name of the file.")
