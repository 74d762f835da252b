"""Changes of the store's schema, by Alembic, run by the store itself when it is opened."""
