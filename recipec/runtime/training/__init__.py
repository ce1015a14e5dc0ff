"""Updates of the weights and the checkpoints of a stage.

``local`` is the training engine of one process, ``optimizer`` its AdamW, ``minibatch`` decides which samples go into
one update and one forward pass; ``resume`` and ``state_files`` write and read checkpoints, and ``stage_artifacts``
saves what a finished stage leaves behind.  Used by ``loop`` and ``build_stage``.
"""
