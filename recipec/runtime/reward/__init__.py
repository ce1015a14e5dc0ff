"""What a row is worth.

``plain`` are the rewards that need a column or two, ``matching`` those of the search dialogue, ``mathematics`` compares
answers as such, in children that run ``judges``; ``sections`` looks at the shape of an answer, ``function`` calls files
of the user.  ``answers`` and ``labels`` find in a text what all of them compare.
"""
