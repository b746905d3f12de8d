"""Mails: rows that are written with what causes them, and a process that carries them to an SMTP server."""
