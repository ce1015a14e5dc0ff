"""A declarative compiler of LLM post-training recipes."""
