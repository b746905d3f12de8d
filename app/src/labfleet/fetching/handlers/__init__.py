"""The ways to fetch that ship; a lab adds its own as entry points (`labfleet.fetching.handlers.known`)."""
