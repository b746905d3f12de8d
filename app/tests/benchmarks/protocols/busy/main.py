import json
import os
import time
from pathlib import Path

end = time.monotonic() + json.loads(Path(os.environ["LABFLEET_PARAMETERS"]).read_text())["seconds"]
while time.monotonic() < end:
    pass
