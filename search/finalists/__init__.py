"""The final round: full training of the best candidates."""

from edge.renamed import names_of

__getattr__ = names_of("search.finalists.finalists")
