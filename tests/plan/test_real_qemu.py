"""Every recorded domain is accepted by the QEMU of this machine: started with ``-S``, asked, and told to quit."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from virlet.plan.base import FdSource, GuestDirs, LaunchPlan, Listener, QmpCommand, render, render_json
from virlet.plan.facts import Facts

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in (HERE / "golden").glob("*.xml") if not path.stem.endswith(".defined"))
IMAGES = {"/images/b.iso": "raw", "/images/d.raw": "raw", "/images/c.raw": "raw", "/images/a,b.qcow2": "qcow2"}


def _here(facts: Facts) -> str | None:
    """Why the QEMU of this machine is not the one that *facts* were taken from."""
    if os.getuid() == 0:
        return "run this as an ordinary user"
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        return "no QEMU here"
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version (\d+)\.(\d+)", said)
    known = next(iter(facts.qemu.values())).version
    if version is None or tuple(map(int, version.groups())) != known[:2]:
        return f"elsewhere: facts of {known}, QEMU here says {said.splitlines()[0]}"
    return None


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose name is short enough for sockets."""
    found = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    yield found
    shutil.rmtree(found)


def _free_ports() -> Iterator[str]:
    """Ports that are free and stay so: from below those that the kernel gives to whoever asks for any."""
    for port in range(31_000 + os.getpid() % 100 * 10, 32_768):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield str(port)


def _rebased(text: str, where: Path) -> str:
    """The XML with its paths below *where*, and a file for the block device, which a test cannot make."""
    for part in ("images", "home/u", "boot"):
        (where / part).mkdir(parents=True)
        text = text.replace(f"/{part}/", f"{where}/{part}/")
    for path, form in IMAGES.items():
        subprocess.run(["qemu-img", "create", "-q", "-f", form, f"{where}{path}", "1M"], check=True)
    shutil.copy("/bin/true", where / "boot" / "initrd")
    ports = _free_ports()
    text = text.replace("45551", next(ports)).replace("45552", next(ports))
    return text.replace("type='block'", "type='file'").replace("dev='/dev/vg/c'", f"file='{where}/images/c.raw'")


class _Qmp:
    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rw")
        assert "QMP" in json.loads(self._lines.readline())
        self.run(QmpCommand("qmp_capabilities"))

    def run(self, command: QmpCommand) -> object:
        self._lines.write(json.dumps({"execute": command.name, "arguments": render_json(command.arguments, id)}) + "\n")
        self._lines.flush()
        while True:
            answer = json.loads(self._lines.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@pytest.mark.e2e
@pytest.mark.parametrize("name", NAMES)
def test_qemu_accepts_the_planned_command_line(
    name: str,
    facts: Facts,
    plan_of: Callable[[str, Facts], LaunchPlan],
    short_dir: Path,
    dirs: GuestDirs,
) -> None:
    reason = _here(facts)
    if reason is not None:
        pytest.skip(reason)
    text = _rebased((HERE / "golden" / f"{name}.xml").read_text(), short_dir)
    text = re.sub(r"\n\s*<(kernel|initrd|cmdline)>.*", "", text)
    plan = plan_of(text, facts)
    with ExitStack() as stack:
        numbers: dict[FdSource, int] = {}
        ours = stack.enter_context(ExitStack())
        for source in plan.fds:
            assert isinstance(source, Listener)
            path = Path(str(source.path).replace(str(dirs.runtime), str(short_dir)))
            bound = ours.enter_context(socket.socket(socket.AF_UNIX))
            bound.bind(str(path))
            bound.listen(1)
            numbers[source] = bound.fileno()
        argv = render(plan.argv, numbers.__getitem__)
        qemu = stack.enter_context(
            subprocess.Popen(argv, pass_fds=tuple(numbers.values()), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        )
        stack.callback(lambda: qemu.poll() is None and qemu.kill())
        ours.close()  # so that the monitor is refused, not waited for, when QEMU did not like its command line
        try:
            qmp = _Qmp(short_dir / "monitor.sock")
        except (ConnectionError, json.JSONDecodeError):
            pytest.fail(_said(qemu))
        stack.callback(qmp.close)
        for command in plan.before_cont:
            qmp.run(command)
        status = qmp.run(QmpCommand("query-status"))
        assert isinstance(status, dict)
        assert status["status"] == "prelaunch"
        qmp.run(QmpCommand("quit"))
        assert qemu.wait(20) == 0, _said(qemu)


def _said(qemu: subprocess.Popen[bytes]) -> str:
    assert qemu.stderr is not None
    return qemu.stderr.read().decode()
