"""Protocols: versioned programs with a manifest. Read, judge, describe, keep and hand them out.

`manifest`, `archive`, `check` and `interface` need neither git nor a database, so that the queue
tier can answer for them; `store` (git) and `service` (database) belong to the webserver.
"""
