"""The ledger: every evaluated candidate, on disk."""

from edge.renamed import names_of

__getattr__ = names_of("search.ledger.ledger")
