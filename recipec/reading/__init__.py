"""Resolved data to frozen specs.

``recipe`` reads a whole file, ``stage`` one stage, ``section`` one mapping against its pydantic model; ``findings``
gathers what is wrong, and ``partial`` is what could be read so far, so that one error does not hide others.
``suggestions`` and ``foreign`` say what was probably meant. Imported by most folders.
"""
