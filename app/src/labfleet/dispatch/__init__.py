"""Dispatch: the process that places tasks, carries the outbox to the CGI runner and repairs what stalled."""
