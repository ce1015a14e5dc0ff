"""WebShop: a shop with pages as plain values, its catalogue, and the reward of a purchase."""
