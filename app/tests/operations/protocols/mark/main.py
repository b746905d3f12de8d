"""Waits as long as it is told, then writes its mark."""

import os
from json import loads
from time import sleep

# pathlib would take longer to import than everything else here.
with open(os.environ["LABFLEET_PARAMETERS"]) as file:  # noqa: PTH123
    parameters = loads(file.read())
sleep(parameters["seconds"])
with open(os.environ["LABFLEET_OUTPUTS"] + "/mark.txt", "w") as file:  # noqa: PTH123
    file.write(parameters["mark"] + "\n")
