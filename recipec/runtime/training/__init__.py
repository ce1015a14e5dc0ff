"""Updates of the weights and the checkpoints of a stage.

``local_engine``, ``fsdp_engine`` and ``deepspeed_engine`` train, ``optimizer`` has optimizers, ``minibatch`` decides
which samples go into one update and one forward pass; ``resume`` and ``state_files`` write and read checkpoints, and
``stage_artifacts`` saves what a finished stage leaves behind.
"""
