"""The command line over a job; imports neither torch nor ray until a job needs them."""
