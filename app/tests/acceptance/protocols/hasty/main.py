"""Sleeps past its time, whatever SIGTERM says."""

import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", flush=True)
time.sleep(60)
