"""One stage, from the compiled graph to what it leaves behind.

``build_stage`` builds its parts, ``running_stage`` is what is built, ``loop`` runs its steps.  ``group_filter`` samples
again where groups carry no signal, ``build_lookahead`` builds what samples ahead.  ``rollout_log`` keeps the rows of a
step, ``resume`` writes and reads checkpoints, ``stage_artifacts`` saves what a finished stage leaves behind.
``evaluate_policy`` evaluates a policy that is trained already.
"""
