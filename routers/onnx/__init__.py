"""Routers as ONNX graphs, and the pair in one file."""
