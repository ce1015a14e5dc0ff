"""Vision-language models.

``vision_lm`` is the policy, ``given_model`` one around a model in memory, ``families`` are the differences between
architectures, ``processors`` prepare images, ``image_tokens`` are the ids of image tokens, ``image_features`` the
encoder's results; ``scratch`` builds new models, and ``sample_rows`` adds images to the rows of ``recipec certify``.
"""
