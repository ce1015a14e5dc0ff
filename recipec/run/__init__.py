"""Running a compiled recipe stage by stage, and the commands that look at a run directory.

``launching`` prepares a run and starts its processes, ``check`` looks for what is missing in any stage, ``executor``
walks the stages, ``run_plan`` compares a recipe with a run directory. Imported by ``api`` and ``cli``.
"""

import sys

from recipec import Verb

sys.modules[__name__].__class__ = Verb
