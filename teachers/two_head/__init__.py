"""AppealNet's two-head students."""

from edge.renamed import names_of

__getattr__ = names_of("teachers.two_head.two_head")
