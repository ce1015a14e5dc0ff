"""Models that see.

``policy`` is the policy, ``families`` what architectures do differently, ``processors`` how their images are prepared,
``ids`` what stands for an image in a row, ``features`` what the encoder makes of it; ``scratch`` builds new models.
``certificate`` proves that shared images change nothing, ``specimens`` are the rows that ``recipec certify`` shows.
"""
