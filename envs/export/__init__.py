"""Graphs as ONNX files: export, quantisation, tidying."""
