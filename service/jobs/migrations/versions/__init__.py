"""One module for each change of the schema, the first release's included."""
