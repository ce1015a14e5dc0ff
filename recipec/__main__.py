"""``python -m recipec`` is ``recipec``."""

from recipec.cli import main

main()
