"""Labfleet: a laboratory's own computation service."""

__version__: str


def __getattr__(name: str) -> str:
    # Looked up only when asked for: the CGI program imports this package and has milliseconds.
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("labfleet")
    raise AttributeError(name)
