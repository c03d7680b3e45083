"""virlet.client.autostart: one daemon, however many want it."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from virlet.client.autostart import dial_or_start
from virlet.client.uri import resolve
from virlet.errors import NoConnect, OperationDenied

DAEMON = """#!{python}
import os, socket, sys
assert sys.argv[1:5] == ["-m", "virlet.daemon.main", "--autostarted", "--ready-fd"], sys.argv
with open({log!r}, "a") as log:
    log.write("started\\n")
if {fails}:
    sys.exit("no room at the inn")
listener = socket.socket(socket.AF_UNIX)
listener.bind({path!r})
listener.listen()
os.write(int(sys.argv[5]), b"READY=1\\n")
os.close(int(sys.argv[5]))
listener.settimeout(20)
peers = [listener.accept() for _ in range({clients})]
"""


def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, clients: int = 1, fails: bool = False) -> Path:
    log = tmp_path / "log"
    script = tmp_path / "daemon"
    path = tmp_path / "virlet/virletd.sock"
    text = DAEMON.format(python=sys.executable, log=str(log), path=str(path), clients=clients, fails=fails)
    script.write_text(text)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return log


def environment(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


def test_many_clients_start_one_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = daemon(tmp_path, monkeypatch, clients=4)
    target = resolve(None, environment(tmp_path), os.getuid())
    failed: list[BaseException] = []

    def client() -> None:
        try:
            dial_or_start(target).close()
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert log.read_text() == "started\n"
    assert (tmp_path / "virlet").stat().st_mode & 0o777 == 0o700


def test_a_daemon_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon(tmp_path, monkeypatch, fails=True)
    with pytest.raises(NoConnect, match="virletd did not start: no room at the inn"):
        dial_or_start(resolve(None, environment(tmp_path), os.getuid()))


def test_nothing_is_started_for_other_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = daemon(tmp_path, monkeypatch)
    with pytest.raises(NoConnect):
        dial_or_start(resolve("qemu:///session", environment(tmp_path), 7))
    with pytest.raises(NoConnect):
        dial_or_start(resolve(None, {**environment(tmp_path), "VIRLET_AUTOSTART": "0"}, os.getuid()))
    assert not log.exists()


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon(tmp_path, monkeypatch)
    (tmp_path / "virlet").mkdir()
    (tmp_path / "virlet").chmod(0o777)
    with pytest.raises(OperationDenied):
        dial_or_start(resolve(None, environment(tmp_path), os.getuid()))
