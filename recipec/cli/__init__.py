"""The command line: one function a command, and ``input_output`` with what they read and print.

``trial_commands`` has those that try a recipe without training, ``commands`` the others.
Imports everything, lazily; imported by ``__main__`` and the console script.
"""

from recipec.cli.commands import app as app
from recipec.cli.commands import main as main
from recipec.cli.trial_commands import check as check
from recipec.cli.trial_commands import try_ as try_
