"""The client of a service: jobs over HTTP, told and fetched as if they ran here.

It knows the service by its API alone. httpx is loaded when a service is first asked.
"""
