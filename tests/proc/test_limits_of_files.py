"""The daemon's own limit of descriptors is not its children's."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, os, resource
from virlet.proc.limits import files_of_children, raise_files
from virlet.proc.spawn import Command, spawn

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
assert files_of_children() is None
raise_files(300)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)
raise_files(10**9)
assert files_of_children() == (300, hard)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)

async def main():
    process = await spawn(Command(("/bin/sleep", "60")), "sleep")
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (300, hard)
    await process.terminate(5)

asyncio.run(main())
"""


def test_a_child_gets_the_limit_that_was_there_before() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
