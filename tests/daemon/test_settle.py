"""What stays after the start is not collected again."""

from __future__ import annotations

import subprocess
import sys


def test_collections_look_at_nothing_old():
    code = (
        "import gc\n"
        "from virlet.daemon.settle import settle\n"
        "settle()\n"
        "print(gc.get_freeze_count() > 1000, len(gc.get_objects()))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    frozen, left = said.stdout.split()
    assert frozen == "True"
    assert int(left) < 100
