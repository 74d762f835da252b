"""Rows of the store by topic; :class:`service.jobs.store.Store` puts the topics together."""
