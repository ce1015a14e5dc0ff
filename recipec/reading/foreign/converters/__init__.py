"""Values of other tools as values here: one small function for each way in which they differ.

``registry`` holds them; ``agents``, ``plain``, ``conditions``, ``places``, ``counts``,
``corrections``, ``critics``, ``models``, ``objective``, ``roll`` and ``teachers`` define them.
"""

from recipec.reading.foreign.converters import (
    agents,
    conditions,
    corrections,
    counts,
    critics,
    models,
    objective,
    places,
    plain,
    roll,
    teachers,
)
from recipec.reading.foreign.converters.registry import (
    Inactive,
    Needless,
    Noted,
    Off,
    Refused,
    Several,
    convert,
    is_refused,
    names,
    on,
    reads_alone,
)

__all__ = [
    "Inactive",
    "Needless",
    "Noted",
    "Off",
    "Refused",
    "Several",
    "agents",
    "conditions",
    "convert",
    "corrections",
    "counts",
    "critics",
    "is_refused",
    "models",
    "names",
    "objective",
    "on",
    "places",
    "plain",
    "reads_alone",
    "roll",
    "teachers",
]
