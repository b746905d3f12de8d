"""How git is started: with no configuration but this."""

from __future__ import annotations

import os

# Git reads no configuration but this: neither a user's nor the machine's may change what is kept.
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "labfleet",
    "GIT_AUTHOR_EMAIL": "labfleet@localhost",
    "GIT_COMMITTER_NAME": "labfleet",
    "GIT_COMMITTER_EMAIL": "labfleet@localhost",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "tar.umask",
    "GIT_CONFIG_VALUE_1": "0022",
}


def with_options(options: dict[str, str]) -> dict[str, str]:
    """The environment of a git that has these settings, too."""
    first = int(ENVIRONMENT["GIT_CONFIG_COUNT"])
    numbered = {"GIT_CONFIG_COUNT": str(first + len(options))}
    for number, (key, value) in enumerate(options.items(), first):
        numbered[f"GIT_CONFIG_KEY_{number}"], numbered[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return ENVIRONMENT | numbered
