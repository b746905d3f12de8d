"""The web: the API under `/api/v1`, and pages for people.

`create_app()` makes the WSGI application; it is the only name that a server needs.
"""

from labfleet.web.factory import create_app

__all__ = ["create_app"]
