"""Vision-language models.

``vision_lm`` is the policy, ``processors`` the image processors, ``image_tokens`` the ids of image tokens,
``image_features`` the encoder output; ``scratch`` creates new models.  ``given_model`` and ``sample_rows`` are for
certification.
"""
