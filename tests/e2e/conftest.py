"""What end-to-end tests share: where the test guest lies, and the control channel's module."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Tests and script/demo import `guest` from beside this file; importmode=importlib adds no path by itself.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def guest_dir() -> Path:
    """Directory with vmlinuz and initramfs.img; script/test has made it, a lone pytest run is told how to."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = Path(os.environ.get("VIRLET_GUEST_DIR") or cache / "virlet/guest")
    if not (directory / "initramfs.img").exists():
        pytest.fail(f"no test guest in {directory}: run script/make-guest first")
    return directory
