"""How a recipe is run: the only folder that imports torch.

Each of these imports only what comes before it: ``rng``, ``context``, ``protocols``, ``user_code``, ``graph_runner``,
``images``, ``batch``, ``data``, ``model``, ``vision``, ``distributed``, ``attention``, ``reward``, ``environment``,
``logging``, ``rollout``, ``training``, ``objective``, ``knowledge``, ``preference``, ``evaluation``, ``stage``,
``trial``.

``stage`` builds and runs a stage; ``graph_runner`` calls the nodes of its graph.  ``protocols`` are the interfaces of
engines, policies, attention, environments and knowledge graphs; ``context`` holds the constants of a stage.  Imported
by ``cli`` and ``run``, inside functions only.
"""
