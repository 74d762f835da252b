"""The search space: candidates, limits, plain students, thresholds, and what accuracies promise."""

from edge.renamed import names_of

__getattr__ = names_of("search.space.space")
