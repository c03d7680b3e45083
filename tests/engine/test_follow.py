"""Guests follow the host's network, with fake programs in a network namespace of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which("unshare") is None, reason="elsewhere: no unshare(1)")
def test_the_story_of_a_route(tmp_path_factory: pytest.TempPathFactory) -> None:
    inside = ["unshare", "--map-root-user", "--net", "--mount"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("elsewhere: user namespaces are forbidden here")
    script = Path(__file__).with_name("follow_inside.py")
    cache = tmp_path_factory.mktemp("follow-cache")
    with tempfile.TemporaryDirectory(prefix="vl") as root:
        done = subprocess.run(
            [*inside, sys.executable, str(script), root, str(cache)],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR": root},
        )
    assert done.stdout == "good\n", done.stderr[-4000:]
