"""Images on their way from a data file to a model.

``parts`` finds their places in messages, ``files`` opens what a row names, ``album`` decodes it, once each, ``fit``
brings it to the size that a recipe asks for, and every pass over a row shares one ``picture``.  ``cache`` bounds the
memory of all that, ``look`` asks for the files before a run.
"""
