"""The command line: ``commands`` has one function a command, ``input_output`` what they read and print.

Imports everything, lazily; imported by ``__main__`` and the console script.
"""

from recipec.cli.commands import app as app
from recipec.cli.commands import main as main
