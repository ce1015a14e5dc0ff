"""How a recipe is done: torch lives here, only here."""
