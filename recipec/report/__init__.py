"""The results of a run and the page that shows them; read from the run directory, while the run goes on or after.

``results`` is the table of evaluations, ``page`` writes ``report.html``, ``compare`` the page of several runs.
Imported by ``api``, ``cli`` and ``run``.
"""
