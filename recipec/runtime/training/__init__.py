"""Updates of the weights.

``local_engine``, ``fsdp_engine`` and ``deepspeed_engine`` train, ``optimizer`` has optimizers, ``minibatch`` decides
which samples go into one update and one forward pass, ``scoring`` computes log-probabilities of whole batches.
``measured_sharing`` counts the tokens that recorded samples share.
"""
