"""The command line as a program of its own, and a server for it to talk to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from virlet.client.sync import Connection, connect

STAND = Path(__file__).with_name("stand.py")


@dataclass(frozen=True, slots=True)
class Home:
    """A user's world: nothing of the real one is visible."""

    path: Path
    socket: Path

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "XDG_RUNTIME_DIR": str(self.path / "run"),
            "VIRLET_URI": f"qemu+unix:///session?socket={self.socket}",
            "LC_ALL": "C.UTF-8",
            "PYTHONWARNINGS": "error",
        }

    def argv(self, *args: str) -> Sequence[str]:
        """The command line that runs virlet."""
        return [sys.executable, "-c", "from virlet.cli.main import main; main()", *args]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run of the program gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        import json

        return json.loads(self.out)


Virlet = Callable[..., Ran]


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a server that runs for all tests."""
    folder = tmp_path_factory.mktemp("stand")
    with subprocess.Popen(
        [sys.executable, str(STAND), str(folder / "s"), str(folder / "config")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield folder / "s"
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
def home(stand: Path, tmp_path: Path) -> Home:
    (tmp_path / "run").mkdir(mode=0o700)
    return Home(tmp_path, stand)


@pytest.fixture
def server(home: Home) -> Iterator[Connection]:
    """The server, empty before and after the test."""
    with connect(home.environ["VIRLET_URI"]) as connection:
        yield connection
        for domain in connection.domains():
            if domain.is_persistent():
                domain.undefine()
            if domain.ref.id >= 0:
                domain.destroy()


@pytest.fixture
def virlet(home: Home) -> Virlet:
    """Run the program: ``virlet("ls", "--all", stdin=…, env={…})``."""

    def run(*args: str, stdin: str = "", env: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            home.argv(*args),
            input=stdin.encode(),
            capture_output=True,
            env=home.environ | (env or {}),
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def xml() -> Callable[[str], str]:
    return lambda name: f"<domain type='qemu'><name>{name}</name><memory>131072</memory></domain>\n"
