"""Pages of the service, and the process that serves them."""
