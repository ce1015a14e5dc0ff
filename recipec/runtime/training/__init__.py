"""Updates of the weights and the checkpoints of a stage.

``local``, ``fsdp`` and ``deepspeed`` are the training engines, ``optimizer`` has optimizers, ``minibatch`` decides
which samples go into one update and one forward pass; ``resume`` and ``state_files`` write and read checkpoints, and
``stage_artifacts`` saves what a finished stage leaves behind.
"""
