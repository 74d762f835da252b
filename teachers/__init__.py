"""What is submitted and what teaches: teachers, data sets, splits, losses and distillation."""

from edge.renamed import install

install()
