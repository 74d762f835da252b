"""The front door: the command line, the version, and that understudy's own packages are found.

They have plain names (:data:`understudy.own.PACKAGES`), as projects have too. Whoever imports this
first gets understudy's, whatever lies beside their script; nothing else changes.
"""

from understudy.own import first

__version__ = "0.1.0"

first()
