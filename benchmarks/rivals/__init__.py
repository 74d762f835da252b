"""The comparison with other ways to make a network smaller: students of equal size, one training.

:mod:`~benchmarks.rivals.sizing` cuts students to a size, :mod:`~benchmarks.rivals.study` searches
and trains, :mod:`~benchmarks.rivals.verdict` says who is ahead.
"""
