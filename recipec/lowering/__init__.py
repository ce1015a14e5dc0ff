"""A checked recipe to a graph.

``nodes`` drafts the nodes of one stage (``drafts`` says what a draft is, ``credit`` drafts those of advantages),
``lower`` orders and hashes them, ``optimise`` leaves out work that changes no number, ``inheritance`` resolves what a
stage takes over from its parent. Imported by ``checks``, ``compile`` and ``planning``.
"""
