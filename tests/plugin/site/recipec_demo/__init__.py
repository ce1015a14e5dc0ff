"""A package that brings one component of every slot by entry points, as a user would write it."""
