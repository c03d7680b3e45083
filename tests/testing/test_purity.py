"""Effects are seen where they are looked for, and nowhere else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from virlet.testing.purity import effects


def _socket() -> None:
    socket.socket(socket.AF_UNIX).close()


def _process() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True, timeout=30)


@pytest.mark.parametrize(
    ("effect", "event"),
    [
        (lambda: Path(os.devnull).read_bytes(), "open"),
        (lambda: os.listdir("/"), "os.listdir"),
        (_socket, "socket."),
        (_process, "subprocess.Popen"),
    ],
)
def test_an_effect_is_seen_inside_and_not_afterwards(effect: Callable[[], object], event: str) -> None:
    with effects() as seen:
        effect()
    assert any(each.startswith(event) for each in seen)
    before = list(seen)
    effect()
    assert seen == before


def test_arithmetic_is_none() -> None:
    with effects() as seen:
        sorted(range(100), key=lambda number: -number)
    assert seen == []
