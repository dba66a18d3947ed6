"""How long the threads of a computation wait for each other before they sleep.

PyTorch divides each operation among OpenMP threads, which wait for each other at its end. GNU
OpenMP lets them wait in a loop for several milliseconds. On a machine that other programs use too,
the thread that is waited for may not run at all while the others burn its processor: LeNet's
training step of 8 ms took 190 to 1,130 ms beside such programs, and 20 to 36 ms with the setting
here (two cores). Alone it costs a small net a tenth at most, larger nets nothing. A third of the
spins costs a small net 15 % alone and saves it as much beside two busy loops.
"""

from __future__ import annotations

import os
import sys

SPINS = "3000"  # some microseconds: a loop for short waits, sleep for long ones
_USERS_CHOICE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def sleep_soon() -> None:
    """Let waiting threads sleep after some microseconds, for the whole process.

    OpenMP reads the setting when PyTorch is imported: before that only it has an effect. What the
    environment says about waiting is left as it is.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _USERS_CHOICE):
        os.environ["GOMP_SPINCOUNT"] = SPINS
