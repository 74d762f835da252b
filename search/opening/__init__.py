"""The opening of a search: plain students."""
