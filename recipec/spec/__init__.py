"""What a recipe may say: one file a slot, no torch."""
