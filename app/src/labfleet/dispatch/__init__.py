"""Dispatch: the process that carries the outbox to the CGI runner and repairs what stalled."""
