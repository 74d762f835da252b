"""Router families and scores that need no fitting."""
