"""Who to trust: fitting, ranking, calibrating and exporting the router."""

from edge.renamed import install

install()
