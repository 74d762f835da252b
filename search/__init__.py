"""Finding the student: agent, candidates on Ray workers, ledger, pipeline and what ships."""

from edge.renamed import install

install()
