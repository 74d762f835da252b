"""Strangers' first jobs: their data, their networks, their exporters, and what they compare with.

:mod:`~benchmarks.strange.cases` lists the combinations, :mod:`~benchmarks.strange.data` makes or
cuts their data, :mod:`~benchmarks.strange.networks` and :mod:`~benchmarks.strange.exports` their
teachers, :mod:`~benchmarks.strange.hand` is the loop that a stranger trains with,
:mod:`~benchmarks.strange.job` runs the product and its rivals, and
:mod:`~benchmarks.strange.report` says who is ahead.
"""
