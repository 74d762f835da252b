"""Checks of what was uploaded, in a process of their own with limits on what it may take.

``python -m service.api.checks KIND INCOMING CONTENT`` reads the files of ``INCOMING``, fills
``CONTENT`` with what the product reads, and prints one JSON object: ``{"facts": …}`` or
``{"problem": …}``. Nothing is unpickled or executed.
"""
