"""How a recipe is run: the only folder that imports torch.

``build_stage`` builds a stage, ``loop`` runs its steps, ``graph_runner`` calls the nodes of its graph,
``running_stage`` is what is built. ``protocols`` are the interfaces of engines, policies, attention, environments and
knowledge graphs; ``context`` holds the constants of a stage. Imported by ``cli`` and ``run``, inside functions only.
"""
