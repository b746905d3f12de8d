"""A lab's own handler of sources, as a wheel: written to the folder that is named; its SHA-256 is told.

The same bytes each time, so that a second run changes nothing.
"""

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

MODULE = '''
from labfleet.fetching.handlers.base import Fetched, Handler, Task


class Counter(Handler):
    title = "Counter"
    description = "Numbers from one on."
    parameters = {
        "type": "object",
        "properties": {"up_to": {"type": "integer", "title": "Up to", "minimum": 1, "maximum": 1000}},
        "required": ["up_to"],
        "additionalProperties": False,
    }

    def fetch(self, task: Task) -> Fetched:
        path = task.work / "numbers.csv"
        path.write_text("n\\n" + "".join(f"{n}\\n" for n in range(1, task.parameters["up_to"] + 1)))
        return Fetched(path, path.name, "text/csv")
'''
INFO = "counter_handler-1.0.dist-info"
FILES = {
    "counter_handler.py": MODULE,
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: counter-handler\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: labfleet-tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[labfleet.source_handlers]\ncounter = counter_handler:Counter\n",
}


def digest(text: str) -> str:
    """As RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def main() -> None:
    """Write the wheel."""
    path = Path(sys.argv[1]) / "counter_handler-1.0-py3-none-any.whl"
    record = "".join(f"{name},sha256={digest(text)},{len(text.encode())}\n" for name, text in FILES.items())
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**FILES, f"{INFO}/RECORD": f"{record}{INFO}/RECORD,,\n"}.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    print(hashlib.sha256(path.read_bytes()).hexdigest())


main()
