"""The package in ``site`` is installed by a fixture, so that no other test has it on its path."""

collect_ignore = ["site"]
