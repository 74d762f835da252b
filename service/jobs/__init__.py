"""Jobs of the service: the store that is the truth, the queue, and the runners of engines.

Importing the package loads nothing: the supervising process of a job lives in it.
"""
