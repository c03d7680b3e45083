"""The program itself, as processes: start, readiness, one a user, activation, signals, the end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from virlet.daemon.main import settings_of
from virlet.errors import BadConfig, SystemFailure
from virlet.wire import remote, virlet

HERE = Path(__file__).parent
PROGRAM = [sys.executable, "-m", "virlet.daemon.main"]


@pytest.fixture
def env(tmp_path):
    """An environment with directories of its own, and the driver in memory installed before the real one."""
    plug = tmp_path / "plug"
    info = plug / "memory-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memory\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[virlet.drivers]\nqemu = memory_plug:open_driver\n")
    (plug / "memory_plug.py").write_text(
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        f"spec = spec_from_file_location('memory_conftest', {str(HERE / 'conftest.py')!r})\n"
        "module = module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "def open_driver(path):\n"
        "    return module.MemoryDriver()\n"
    )
    made = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": str(tmp_path / "r"),
        "PYTHONPATH": str(plug),
        "LC_ALL": "C.UTF-8",
    }
    (tmp_path / "home").mkdir()
    (tmp_path / "r").mkdir(mode=0o700)
    return made


@pytest.fixture
def start(env):
    """Start the daemon and wait until it says that it is ready."""
    made = []

    def go(*args, program=PROGRAM, **more):
        reading, writing = os.pipe()
        daemon = subprocess.Popen(
            [*program, "--ready-fd", str(writing), *args],
            env=env | more,
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        made.append(daemon)
        os.close(writing)
        with open(reading, "rb") as ready:
            assert ready.read() == b"READY=1\n", daemon.communicate()[1]
        return daemon

    yield go
    for daemon in made:
        if daemon.poll() is None:
            daemon.terminate()
        daemon.communicate(timeout=20)


def path_of(env):
    return Path(env["XDG_RUNTIME_DIR"]) / "virlet" / "virletd.sock"


def greet(path):
    """Whether somebody there speaks our protocol: AUTH_LIST is answered."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return greeted(client)


def greeted(client):
    """The same of a connection, which ends."""
    with client:
        client.settimeout(30)
        client.sendall(bytes.fromhex("0000001c 20008086 00000001 00000042 00000000 00000000 00000000"))
        return client.recv(100)[4:8] == bytes.fromhex("20008086")


def test_ready_means_that_clients_are_let_in_and_sigterm_leaves_nothing(start, env):
    daemon = start()
    assert greet(path_of(env))
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    assert os.listdir(path_of(env).parent) == []
    (log,) = Path(env["HOME"]).glob(".local/state/virlet/*/virletd.log")
    assert "listening on" in log.read_text()
    assert "guests run on" in log.read_text()


def test_a_second_one_says_who_was_first(start, env):
    daemon = start()
    second = subprocess.run(PROGRAM, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert f"another virletd (pid {daemon.pid}) serves this user" in second.stderr
    assert "Traceback" not in second.stderr
    assert greet(path_of(env))


def test_a_killed_one_is_replaced(start, env):
    first = start()
    first.kill()
    first.wait()
    start()
    assert greet(path_of(env))


def test_a_vanished_runtime_directory_is_made_again_by_the_daemon_that_runs(start, env):
    daemon = start()
    shutil.rmtree(path_of(env).parent)
    second = start("--autostarted")
    assert second.wait(20) == 0, "ready means that the first one listens again"
    assert greet(path_of(env))
    assert daemon.poll() is None


def test_the_service_manager_is_told(start, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        daemon = start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
        daemon.terminate()
        assert manager.recv(100) == b"STOPPING=1"


def activated(env, *args):
    """The daemon with a listening socket as descriptor 3, like systemd starts it; and a client that waits there."""
    listening = socket.socket(socket.AF_UNIX)
    path_of(env).parent.mkdir(mode=0o700, exist_ok=True)
    listening.bind(str(path_of(env)))
    listening.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path_of(env)))
    code = (
        "import os, sys\n"
        f"os.dup2({listening.fileno()}, 3)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'virletd'}\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, *PROGRAM, *args]
    daemon = subprocess.Popen(command, env=env, pass_fds=(listening.fileno(),))
    listening.close()
    return daemon, client


def test_a_client_at_an_activated_socket_waits_until_the_daemon_is_there(env):
    daemon, client = activated(env)
    assert greeted(client)
    assert greet(path_of(env))
    daemon.terminate()
    assert daemon.wait(20) == 0
    assert path_of(env).exists(), "the manager's socket stays the manager's"


def test_it_ends_when_idle_if_told_so(env):
    daemon, client = activated(env, "--timeout=0.3")
    assert greeted(client)
    assert daemon.wait(20) == 0


def test_sighup_opens_the_log_anew_and_ends_nothing(start, env):
    daemon = start("--verbose")
    (log,) = Path(env["HOME"]).glob(".local/state/virlet/*/virletd.log")
    log.rename(log.with_suffix(".moved"))
    daemon.send_signal(signal.SIGHUP)
    assert greet(path_of(env))
    daemon.terminate()
    daemon.wait(20)
    assert "guests run on" in log.read_text()


def test_settings_come_from_the_file_and_the_command_line_wins(tmp_path):
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/x"}
    file = tmp_path / ".config" / "virlet" / "virletd.toml"
    file.parent.mkdir(parents=True)
    file.write_text("timeout = 7\nverbose = true\nshare_memory = true\n")
    found = settings_of([], environ, 1000)
    assert (found.timeout, found.verbose, found.socket) == (7, True, Path("/run/x/virlet/virletd.sock"))
    assert found.share_memory
    assert settings_of(["--timeout=120"], environ, 1000).timeout == 120
    assert settings_of(["--timeout=0"], environ, 1000).timeout is None


@pytest.mark.parametrize(
    "text",
    [
        "timeout = 'x'\n",
        "unheard = 1\n",
        "not toml",
        "verbose = 1",
        "slirp_helper = 1\n",
        "slirp_helper = 'slirp'\n",
    ],
)
def test_a_file_that_says_nonsense_is_refused(tmp_path, text):
    (tmp_path / "c").write_text(text)
    with pytest.raises(BadConfig, match=str(tmp_path / "c")):
        settings_of(["--config", str(tmp_path / "c")], {"HOME": "/h"}, 1000)


def test_each_wrong_setting_is_named_once(tmp_path):
    (tmp_path / "c").write_text("timeout = 'x'\nslirp_helper = 'slirp'\n")
    with pytest.raises(BadConfig) as caught:
        settings_of(["--config", str(tmp_path / "c")], {"HOME": "/h"}, 1000)
    assert (str(caught.value).count("'timeout' "), str(caught.value).count("'slirp_helper' ")) == (1, 1)


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_a_timeout_that_is_no_time_is_refused(tmp_path, seconds):
    with pytest.raises(BadConfig, match="number of seconds"):
        settings_of([f"--timeout={seconds}"], {"HOME": str(tmp_path)}, 1000)


def test_a_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(SystemFailure, match="No such file"):
        settings_of(["--config", str(tmp_path / "none")], {"HOME": "/h"}, 1000)


def test_the_version_is_printed(env):
    said = subprocess.run([*PROGRAM, "--version"], env=env, capture_output=True, text=True, timeout=20, check=True)
    assert said.stdout.startswith("virletd ")


def test_the_daemon_loads_no_library_for_terminals(env):
    code = (
        "import sys, virlet.daemon.main, virlet.daemon.handlers\n"
        "virlet.daemon.handlers.all_handlers()\n"
        "print([name for name in ('rich', 'click', 'xml.etree', 'importlib.metadata', 'tomllib', 'http')"
        " if name in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=20, check=True)
    assert said.stdout == "[]\n"


virsh = pytest.mark.skipif(
    shutil.which("virsh") is None or os.getuid() == 0,
    reason="needs virsh and a session, which root has not",
)


def stock(env, *args, **more):
    return subprocess.run(
        ["virsh", *args],
        env=env | more,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )


async def switch_on(kit, path):
    client = kit.RawClient(path)
    await client.ask(remote.CONNECT_OPEN, kit.URI, 0)
    (answer,) = await client.ask(virlet.COMPAT, "enable", 0)
    client.close()
    return json.loads(answer)


@virsh
def test_stock_clients_find_and_start_us_once_compat_is_enabled(start, env, kit, tmp_path):
    daemon = start()
    told = asyncio.run(switch_on(kit, path_of(env)))
    assert "QEMU 7.2.0" in stock(env, "-c", "qemu:///session", "version").stdout
    daemon.terminate()
    daemon.wait(20)
    # Clients hand over hardly any variable: the plug-in of this test needs a program that knows where it is.
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={env["PYTHONPATH"]} exec {sys.executable} -m virlet.daemon.main "$@"\n')
    wrapper.chmod(0o755)
    (Path(told["directory"]) / "libvirtd").unlink()
    (Path(told["directory"]) / "libvirtd").symlink_to(wrapper)
    listed = stock(env, "-c", "qemu:///session", "hostname", LIBVIRTD_PATH=told["directory"])
    assert listed.stdout.strip() == "here", listed.stderr
    (lock,) = Path(env["HOME"]).glob(".local/state/virlet/*/virletd.lock")
    os.kill(int(lock.read_text()), signal.SIGTERM)
