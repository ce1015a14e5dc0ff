"""WebShop: a shop whose pages are values, its catalogue, and the reward for what was bought."""
