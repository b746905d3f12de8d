import sys

import acceptance_library

print("library", acceptance_library.VERSION, "of", sys.prefix)
