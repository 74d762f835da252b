"""What is told of a finished run."""

from edge.renamed import names_of

__getattr__ = names_of("search.report.report")
