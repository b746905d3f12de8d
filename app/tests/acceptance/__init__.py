"""Tests of a deployed lab, whichever its shape: run from the controller against `LABFLEET_INVENTORY`."""
