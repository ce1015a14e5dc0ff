"""The command line: one function a command, and ``input_output`` with what they read and print.

``trial_commands`` has those that try a recipe without training, ``run_commands`` those that take a run, and
``import_command`` the one that reads files of other tools; ``process`` starts and ends them. Imported by ``__main__``.
"""

from recipec.cli.catalogue_commands import ls as ls
from recipec.cli.commands import app as app
from recipec.cli.import_command import import_ as import_
from recipec.cli.process import main as main
from recipec.cli.run_commands import diff as diff, evaluate as evaluate, export as export, lock as lock
from recipec.cli.trial_commands import check as check, doctor as doctor, try_ as try_
