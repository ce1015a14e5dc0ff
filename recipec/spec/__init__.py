"""What a recipe may say: one file or folder per slot.

Imported by most folders.
"""
