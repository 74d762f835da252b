"""The ranking of routers, and the choice among them."""

from edge.renamed import names_of

__getattr__ = names_of("routers.ranking.ranking")
