"""The opening of a search: plain students."""

from edge.renamed import names_of

__getattr__ = names_of("search.opening.opening")
