"""The host is out of something: one clear error for who asked, nothing half done, and no guest notices."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from faultstand import DOMAIN, PASST, Stand, free_ports

from virlet.client.sync import Connection
from virlet.errors import OperationInvalid, VirletError

pytestmark = [pytest.mark.faults]

NAMESPACE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    assert result == 0, os.strerror(ctypes.get_errno())
def mount(source, target, kind, flags, data):
    must(libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags, data and data.encode()))
uid, gid = os.getuid(), os.getgid()
must(libc.unshare(0x10020000))  # CLONE_NEWUSER | CLONE_NEWNS
for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
"""
"""A daemon with mounts of its own."""
SMALL = NAMESPACE + "mount('tmpfs', PATH, 'tmpfs', 0, 'size=1m,nr_inodes=100,mode=700')\n"
READ_ONLY = NAMESPACE + (
    "mount(PATH, PATH, None, 4096, None)\n"  # MS_BIND, and again with MS_REMOUNT | MS_RDONLY and what is locked.
    "mount('none', PATH, None, 4096 | 32 | 1 | os.statvfs(PATH).f_flag & 1038, None)\n"
)
UUID = "<uuid>7d6bcd80-9d5b-4c6f-9d1e-5d8c4f8c1a0{}</uuid>"
PARTS = {"config": "c/virlet", "state": "s/virlet", "log": "s/virlet/log", "runtime": "r/virlet"}
CACHE = "k/virlet"


class House:
    """Two guests defined, the first of them running."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.ports = free_ports(3)

    def xml(self, number: int) -> str:
        nic = PASST.format(n=number, port=self.ports[number])
        return DOMAIN.format(name=f"guest{number}", uuid=UUID.format(number), extra="", devices=nic)

    def prepare(self, connection: Connection) -> None:
        connection.define(self.xml(0)).start()
        connection.define(self.xml(1))

    def unharmed(self) -> None:
        """The running guest has its network, and gets it back."""
        assert self.stand.answers(self.ports[0])
        self.stand.kill("/passt")
        self.stand.until(lambda: self.stand.answers(self.ports[0]), "the network is back")

    def tried(self, connection: Connection) -> list[str]:
        """What is refused of a definition and a start, in words; nothing is left of it."""
        said = []
        for what in (lambda: connection.define(self.xml(2)), connection.lookup_by_name("guest1").start):
            try:
                what()
            except VirletError as error:
                said.append(str(error))
        running = [domain.name for domain in connection.domains(1)]
        assert "guest0" in running
        self.stand.consistent(connection)
        if "guest1" in running:
            connection.lookup_by_name("guest1").destroy()
        assert "Traceback" not in self.stand.log(), self.stand.log()
        return said

    def healed(self, connection: Connection) -> None:
        for number in (1, 2):
            connection.define(self.xml(number)).start()
        self.stand.consistent(connection)
        self.stand.nothing(connection)


@pytest.fixture
def house(stand: Stand) -> House:
    return House(stand)


def fill(path: Path) -> None:
    """No byte and no name more."""
    (path / "filler").mkdir()
    with contextlib.suppress(OSError), open(path / "filler/bytes", "ab", buffering=0) as file:
        for size in (65_536, 1024, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    with contextlib.suppress(OSError):
        for number in range(10_000):
            (path / f"filler/{number}").touch()


@pytest.mark.parametrize("part", PARTS)
def test_a_full_disk_is_one_error_and_no_guests_trouble(stand: Stand, house: House, part: str) -> None:
    path = stand.base / PARTS[part]
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    assert stand.begin(before=SMALL.replace("PATH", repr(str(path)))), stand.log()
    inside = Path(f"/proc/{stand.pid}/root{path}")
    stand.inside = Path(f"/proc/{stand.pid}/root")
    stand.uri = f"qemu+unix:///session?socket={stand.inside}{stand.run}/virletd.sock"
    with stand.client() as connection:
        house.prepare(connection)
        fill(inside)
        said = house.tried(connection)
        assert len(said) == 1, said
        assert re.search(rf"{path}.*: No space left on device|No space left on device", said[0])
        house.unharmed()
        shutil.rmtree(inside / "filler")
        house.healed(connection)


@pytest.mark.parametrize("part", PARTS)
def test_a_read_only_directory_is_one_error_and_no_guests_trouble(stand: Stand, house: House, part: str) -> None:
    assert stand.begin()
    with stand.client() as connection:
        house.prepare(connection)
    stand.end()
    path = stand.base / PARTS[part]
    if stand.begin(before=READ_ONLY.replace("PATH", repr(str(path)))):
        with stand.client() as connection:
            said = house.tried(connection)
            assert len(said) == 1, said
            assert "Read-only file system" in said[0]
            house.unharmed()
            if part == "config":
                with pytest.raises(VirletError, match="Read-only file system"):
                    connection.compat("enable")
        stand.end()
    else:
        # It cannot listen, or not take its lock: it says so in one line, and guests run on without it.
        assert re.search(r"virletd: .*Read-only file system", stand.log()), stand.log()
        assert stand.answers(house.ports[0])
    assert stand.begin()
    with stand.client() as connection:
        stand.consistent(connection)
        house.healed(connection)


@pytest.mark.parametrize("fault", ["full", "read-only", "unmakable"])
def test_a_cache_that_cannot_be_written_is_told_once_and_keeps_nobody_from_anything(
    stand: Stand, house: House, fault: str
) -> None:
    path = stand.base / CACHE
    stand.env["XDG_CACHE_HOME"] = str(path.parent)
    if fault == "unmakable":
        path.parent.write_text("no directory")
    else:
        path.mkdir(parents=True, mode=0o700)
    mounts = {
        "full": SMALL.replace("size=1m", "size=4k").replace("nr_inodes=100", "nr_inodes=2"),
        "read-only": READ_ONLY,
    }
    before = mounts.get(fault, "pass").replace("PATH", repr(str(path)))
    assert stand.begin(before=before), stand.log()
    with stand.client() as connection:
        house.prepare(connection)
        assert not house.tried(connection)
        house.unharmed()
        for _ in range(2):
            (problem,) = [each for each in connection.doctor()["problems"] if str(path) in each]
        assert "cannot be remembered" in problem
        house.healed(connection)
    assert stand.log().count(str(path)) == 1, stand.log()


def test_a_read_only_home_is_one_error_that_names_the_way_out_and_with_that_nothing_is_missing(
    stand: Stand, house: House
) -> None:
    home = stand.base / "home"
    home.mkdir()
    before = READ_ONLY.replace("PATH", repr(str(home)))
    elsewhere = {name: stand.env.pop(name) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    stand.env["HOME"] = str(home)
    assert not stand.begin(before=before)
    (said,) = stand.log().splitlines()
    assert re.fullmatch(rf"virletd: error: .*{home}.*: Read-only file system \(hint: set XDG_STATE_HOME.*\)", said)
    # What was defined before can be had still, where only the rest is elsewhere.
    stand.env.update({name: elsewhere[name] for name in ("XDG_STATE_HOME",)})
    assert stand.begin(before=before), stand.log()
    with stand.client() as connection:
        with pytest.raises(VirletError, match=rf"{home}.*: Read-only file system"):
            connection.define(house.xml(0))
        connection.create(house.xml(0))
        assert stand.answers(house.ports[0])
        stand.nothing(connection)
    stand.end()
    stand.env.update(elsewhere)
    assert stand.begin(before=before), stand.log()
    with stand.client() as connection:
        house.prepare(connection)
        assert not house.tried(connection)
        house.unharmed()
        house.healed(connection)
    assert "Traceback" not in stand.log()


def runs_out(stand: Stand, limit: int) -> None:
    """One guest cannot be started and a dead passt not be replaced; then the daemon has again what it needs."""
    house = House(stand)
    assert stand.begin()
    with stand.client() as connection:
        house.prepare(connection)
    # A daemon that has started nothing yet has no thread for that either.
    stand.end()
    assert stand.begin()
    with stand.client() as connection:
        soft, hard = resource.prlimit(stand.pid, limit)
        few = stand.descriptors() + 1 if limit == resource.RLIMIT_NOFILE else 1
        resource.prlimit(stand.pid, limit, (few, hard))
        for _ in range(2):
            with pytest.raises(VirletError, match=r"Too many open files|Resource temporarily unavailable"):
                connection.lookup_by_name("guest1").start()
        assert [domain.name for domain in connection.domains(1)] == ["guest0"]
        stand.kill("/passt")
        stand.until(lambda: "cannot be started" in stand.log(), "the daemon has tried")
        resource.prlimit(stand.pid, limit, (soft, hard))
        stand.until(lambda: stand.answers(house.ports[0]), "the network is back")
        stand.consistent(connection)
        house.healed(connection)
    assert "Traceback" not in stand.log(), stand.log()


LIMITS = {"descriptors": resource.RLIMIT_NOFILE, "processes": resource.RLIMIT_NPROC}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_a_daemon_out_of_something_says_so_and_goes_on_when_it_has_it_again(stand: Stand, limit: int) -> None:
    runs_out(stand, limit)


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_so_does_one_whose_qemu_is_confined_by_a_thread_of_its_own(real: Stand, limit: int) -> None:
    runs_out(real, limit)


def test_files_that_cannot_be_read_are_put_aside_and_everything_else_starts(stand: Stand, house: House) -> None:
    assert stand.begin()
    with stand.client() as connection:
        house.prepare(connection)
        more = [DOMAIN.format(name=f"more{number}", uuid="", extra="", devices="") for number in range(4)]
        uuids = [connection.define(xml).uuid for xml in more]
    stand.end()
    config = stand.base / "c/virlet/domains"
    whole = (config / f"{uuids[0]}.xml").read_bytes()
    (config / f"{uuids[0]}.xml").write_bytes(whole[: len(whole) // 2])
    (config / f"{uuids[1]}.xml").write_bytes(b"")
    (config / f"{uuids[2]}.xml").chmod(0)
    (config / "00000000-0000-0000-0000-000000000000.xml").mkdir()
    (status,) = stand.base.glob("s/virlet/*/*/*.json")
    (status.parent / "not-a-uuid.json").write_text("{}")
    (status.parent / f"{uuids[3]}.json").write_bytes(os.urandom(1000))
    assert stand.begin()
    with stand.client() as connection:
        assert {domain.name for domain in connection.domains()} == {"guest0", "guest1", "more3"}
        said = str(connection.doctor())
        assert all(uuid in said for uuid in uuids)
        assert len(list(config.glob("*.bad-*"))) == 2, list(config.iterdir())
        house.unharmed()
        connection.lookup_by_name("guest1").start()
    stand.end()


@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_that_jumps_changes_nothing(stand: Stand, house: House, years: int) -> None:
    assert stand.begin()
    with stand.client() as connection:
        house.prepare(connection)
    stand.end()
    shift = f"import time; real = time.time; time.time = lambda: real() + {years} * 31_557_600"
    assert stand.begin(before=shift)
    with stand.client() as connection:
        stand.consistent(connection)
        for _ in range(7):
            house.unharmed()
        house.healed(connection)


def test_a_clock_that_jumps_while_the_daemon_runs_changes_nothing(stand: Stand, house: House) -> None:
    jumps = stand.base / "jumps"
    jumps.write_text("0")
    shift = f"import time; real = time.time; time.time = lambda: real() + float(open({str(jumps)!r}).read() or 0)"
    assert stand.begin(before=shift)
    with stand.client() as connection:
        house.prepare(connection)
        for years in (10, -10, 0):
            jumps.write_text(str(years * 31_557_600))
            stand.consistent(connection)
            for _ in range(3):
                house.unharmed()
            connection.lookup_by_name("guest1").start()
            stand.consistent(connection)
            connection.lookup_by_name("guest1").destroy()
        house.healed(connection)


def test_a_runtime_directory_that_vanishes_is_made_again(stand: Stand, house: House) -> None:
    assert stand.begin()
    with stand.client() as connection:
        house.prepare(connection)
        shutil.rmtree(stand.run)
        house.unharmed()
        os.kill(stand.pid, signal.SIGHUP)
        stand.until(lambda: (stand.run / "virletd.sock").exists(), "it listens again")
        connection.lookup_by_name("guest1").start()
    with stand.client() as connection:
        assert len(connection.domains(1)) == 2
        connection.lookup_by_name("guest1").destroy()
    shutil.rmtree(stand.run)
    stand.end(signal.SIGKILL)
    assert stand.begin()
    with stand.client() as connection:
        # Nobody can reach its monitor any more; it runs, is shown, and can be ended.
        assert connection.lookup_by_name("guest0").is_active()
        assert stand.answers(house.ports[0])
        stand.nothing(connection)


@pytest.fixture
def other_host(stand: Stand) -> str:
    """What makes a daemon believe that it runs on another machine."""
    identity = stand.base / "machine-id"
    identity.write_text("f" * 32 + "\n")
    return NAMESPACE + f"mount({str(identity)!r}, '/etc/machine-id', None, 4096, None)\n"


def test_two_hosts_share_a_home(stand: Stand, house: House, other_host: str) -> None:
    assert stand.begin()
    with stand.client() as connection:
        house.prepare(connection)
        first, uri, run = stand.pid, stand.uri, stand.env["XDG_RUNTIME_DIR"]
        # A runtime directory is a host's own.
        stand.pid, stand.env["XDG_RUNTIME_DIR"] = 0, str(stand.base / "r2")
        (stand.base / "r2").mkdir(mode=0o700)
        stand.uri = uri.replace("/r/", "/r2/")
        assert stand.begin(before=other_host), stand.log()
        with stand.client() as other:
            assert {domain.name for domain in other.domains()} == {"guest0", "guest1"}
            assert not other.domains(1)
            with pytest.raises(OperationInvalid, match="another host"):
                other.lookup_by_name("guest1").start()
            other.define(DOMAIN.format(name="theirs", uuid="", extra="", devices="")).start()
            assert [domain.name for domain in connection.domains(1)] == ["guest0"]
            other.lookup_by_name("theirs").destroy()
            other.lookup_by_name("theirs").undefine()
        stand.end()
        stand.pid, stand.uri, stand.env["XDG_RUNTIME_DIR"] = first, uri, run
        stand.consistent(connection)
        house.healed(connection)


@pytest.fixture
def other_boot(stand: Stand) -> str:
    """What makes a daemon believe that it runs on a machine with the same id, which is another one nevertheless."""
    identity = stand.base / "boot_id"
    identity.write_text("ffffffff-ffff-4fff-bfff-ffffffffffff\n")
    return NAMESPACE + f"mount({str(identity)!r}, '/proc/sys/kernel/random/boot_id', None, 4096, None)\n"


def test_two_hosts_with_one_machine_id_take_no_guest_from_each_other(stand: Stand, other_boot: str) -> None:
    assert stand.begin()
    with stand.client() as connection:
        xml = DOMAIN.format(name="theirs", uuid="", extra="", devices=PASST.format(n=1, port=free_ports(1)[0]))
        uuid = connection.define(xml).uuid
        connection.lookup_by_name("theirs").start()
    stand.end()
    uri, run = stand.uri, stand.env["XDG_RUNTIME_DIR"]
    stand.env["XDG_RUNTIME_DIR"] = str(stand.base / "r2")
    (stand.base / "r2").mkdir(mode=0o700)
    stand.uri = uri.replace("/r/", "/r2/")
    assert stand.begin(before=other_boot), stand.log()
    with stand.client() as other:
        theirs = other.lookup_by_name("theirs")
        assert not theirs.is_active()
        (problem,) = [each for each in other.doctor()["problems"] if uuid in each]
        assert "under this one's machine id" in problem
        nic = ElementTree.fromstring(theirs.xml(2)).find("devices/interface/portForward/range")
        assert nic is not None
        # Without its port there is nothing here that is taken.
        other.define(theirs.xml(2).replace(f"'{nic.get('start')}'", f"'{free_ports(1)[0]}'"))
        with pytest.raises(OperationInvalid, match="a QEMU of 'theirs' runs already"):
            theirs.start()
    stand.end()
    stand.uri, stand.env["XDG_RUNTIME_DIR"] = uri, run
    shutil.rmtree(stand.base / "r2")
    assert stand.begin()
    with stand.client() as connection:
        assert connection.lookup_by_name("theirs").is_active()
        stand.consistent(connection)
        stand.nothing(connection)
