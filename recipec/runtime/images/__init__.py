"""Images, from a file to the inputs of a model.

``files`` opens images, ``embedded`` takes them out of a data file, ``image_store`` decodes each once, ``fit`` resizes,
``picture`` is one processed image, ``cache`` bounds the memory.
"""
