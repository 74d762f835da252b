"""Files that teachers come in, and what describes them."""

from edge.renamed import names_of

__getattr__ = names_of("teachers.formats.formats")
