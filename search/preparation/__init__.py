"""A job made ready: teacher, data, parts, answers of the teacher, checks."""

from edge.renamed import names_of

__getattr__ = names_of("search.preparation.prepare")
