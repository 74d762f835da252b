"""The service over HTTP: what a job can be asked for, who may ask, and how refusals read."""
