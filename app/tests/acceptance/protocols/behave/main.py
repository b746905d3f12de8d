"""Does the one thing that its parameter names."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

parameters = json.loads(Path(os.environ["LABFLEET_PARAMETERS"]).read_text())
outputs = Path(os.environ["LABFLEET_OUTPUTS"])
number, marker = parameters["number"], parameters["marker"]


def progress(share: float, text: str) -> None:
    with Path(os.environ["LABFLEET_PROGRESS"]).open("a") as stream:
        stream.write(f"{share:.2f} {text}\n")


def write() -> None:
    (outputs / "result.txt").write_text("done\n")


def leave() -> None:
    print("the reagent is spent", file=sys.stderr)
    sys.exit(number)


def half() -> None:
    write()
    leave()


def megabytes() -> None:
    for _ in range(number):
        sys.stdout.write(("x" * 1023 + "\n") * 1024)
    write()


def omit() -> None:
    print("nothing written")


def inapplicable() -> None:
    print("needs two groups, found one", file=sys.stderr)
    sys.exit(65)


def wait() -> None:
    for second in range(number):
        progress(second / max(number, 1), f"second {second}")
        time.sleep(1)
    write()


def tree() -> None:
    """Children that leave the process group and the session, as deep as a test wants them."""
    code = "import os,sys,time; os.setsid(); os.fork() and time.sleep(300) or os.setsid() or time.sleep(300)"
    for _ in range(3):
        subprocess.Popen([sys.executable, "-c", code, marker])
    wait()


def link() -> None:
    (outputs / "result.txt").symlink_to("/etc/passwd")


def outside() -> None:
    Path("/tmp/../result.txt").write_text("out")


def memory() -> None:
    hold = [bytearray(16 * 1024 * 1024) for _ in range(number)]
    print(len(hold))
    write()


def disk() -> None:
    with (outputs / "result.txt").open("wb") as stream:
        for _ in range(number):
            stream.write(b"x" * 1024 * 1024)


actions = {
    "write": write,
    "exit": leave,
    "half": half,
    "print": megabytes,
    "omit": omit,
    "inapplicable": inapplicable,
    "wait": wait,
    "tree": tree,
    "link": link,
    "outside": outside,
    "memory": memory,
    "disk": disk,
}
actions[parameters["action"]]()
