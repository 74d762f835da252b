"""The comparison with other ways to make a network smaller: students of equal size, one training.

:mod:`~benchmarks.rivals.sizing` cuts students to a size, :mod:`~benchmarks.rivals.searching` is our
own way to one, :mod:`~benchmarks.rivals.study` trains them, :mod:`~benchmarks.rivals.verdict` says
who is ahead.
"""
