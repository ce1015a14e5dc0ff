"""ALFWorld: household games, made by ``game_maker`` and played in a child process by ``worker``."""
