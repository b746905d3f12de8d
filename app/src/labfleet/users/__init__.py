"""Users: accounts, passwords and API tokens."""
