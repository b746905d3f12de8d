"""`python -m labfleet.web [FILE]` writes the OpenAPI document."""

import sys

from labfleet.web.openapi import main

if __name__ == "__main__":
    sys.exit(main())
