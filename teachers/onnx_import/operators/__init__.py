"""Handlers of operators, grouped by kind; the table that names them is ``onnx_import.table``."""
