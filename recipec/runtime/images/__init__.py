"""Images, from a data file to the inputs of a model.

``parts`` finds images in messages, ``files`` opens them, ``image_store`` decodes each once, ``fit`` resizes,
``picture`` is one processed image, ``cache`` bounds the memory.  ``protocols`` says what a policy that reads images
has.  ``preflight`` opens all images before a run.
"""
