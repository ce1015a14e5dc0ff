"""Running a compiled recipe stage by stage, and the run directory.

``executor`` walks the stages, ``preflight`` checks what they need first, ``run_plan`` compares a recipe with a run
directory, ``artifacts`` reads and writes folders that exist whole or not at all, ``results`` and ``report`` summarise.
``worker_pool`` runs what may hang in processes that can be killed.  Imports ``graph`` and ``planning``; reaches
``runtime`` only when a stage runs.  No torch here.
"""

import sys

from recipec import Verb

sys.modules[__name__].__class__ = Verb
