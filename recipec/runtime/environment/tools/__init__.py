"""Tools that the policy calls.

``calls`` reads the calls of a turn, ``schemas`` describes functions to the chat template, ``worker`` runs them in a
child process, and ``tool_use`` is the environment.
"""
