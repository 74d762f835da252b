"""Graphs as ONNX files: export, quantisation, tidying."""

from edge.renamed import names_of

__getattr__ = names_of("envs.export.export")
