"""Values of other tools as values here: one small function for each way in which they differ.

``registry`` holds them; ``plain``, ``conditions``, ``places``, ``counts``, ``critics`` and
``objective`` define them.
"""

from recipec.reading.foreign.converters import conditions, counts, critics, objective, places, plain
from recipec.reading.foreign.converters.registry import Given, Needless, Refused, Several, convert, names, reads_alone

__all__ = [
    "Given",
    "Needless",
    "Refused",
    "Several",
    "conditions",
    "convert",
    "counts",
    "critics",
    "names",
    "objective",
    "places",
    "plain",
    "reads_alone",
]
