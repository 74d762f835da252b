"""The ranking of routers, and the choice among them."""
