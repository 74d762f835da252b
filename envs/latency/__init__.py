"""Latency: what operators a student runs, how long they take, and graphs to find that out with.

:mod:`envs.latency.works` says what work thousands of candidates do, :mod:`envs.latency.model`
learns from a profile how long work takes, :mod:`envs.latency.graph` writes networks as small ONNX
graphs, and :mod:`envs.latency.kit` puts those together that a device has to time.
"""
