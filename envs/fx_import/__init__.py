"""Any torch module read into a graph."""
