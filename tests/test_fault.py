"""Named points cost nothing unless one of them is asked for; then the process is killed there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

PROGRAM = """
import os
from virlet.fault import arm, point
arm(os.environ)
assert "VIRLET_FAULT" not in os.environ
for number in range(3):
    print(number, flush=True)
    point("there")
    point("elsewhere")
"""


def run(fault: str) -> tuple[int, list[str]]:
    env = {**os.environ, **({"VIRLET_FAULT": fault} if fault else {})}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split()


def test_nothing_happens_at_a_point_that_nobody_asked_for() -> None:
    assert run("") == run("nowhere") == (0, ["0", "1", "2"])


def test_a_process_is_killed_where_it_was_asked_for() -> None:
    assert run("there") == (-signal.SIGKILL, ["0"])
    assert run("elsewhere:3") == (-signal.SIGKILL, ["0", "1", "2"])
