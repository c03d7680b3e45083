"""The probes against what is installed here; parsing against what other generations say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.engine.facts import emulators, gather, probe_emulator
from virlet.engine.probe.cache import NOTHING, Cache, file_key, from_plain, to_plain
from virlet.engine.probe.host import probe_host
from virlet.engine.probe.kvm import Trial, judge, probe_kvm, rom
from virlet.engine.probe.passt import parse_options, probe_passt
from virlet.engine.probe.qemu import Schema, probe_qemu
from virlet.engine.probe.run import run
from virlet.errors import InternalError, OperationTimeout, SystemFailure
from virlet.plan.facts import CpuModel, Facts, MachineType, PasstFacts, QemuFacts, Support

QEMU = shutil.which("qemu-system-x86_64")
PASST = shutil.which("passt")
needs_qemu = pytest.mark.skipif(QEMU is None, reason="no qemu-system-x86_64 here")
needs_passt = pytest.mark.skipif(PASST is None, reason="no passt here")


@needs_qemu
async def test_a_qemu_says_what_it_can_do() -> None:
    assert QEMU is not None
    qemu = await probe_qemu(Path(QEMU))
    assert qemu.arch == "x86_64"
    assert qemu.version >= (4, 0, 0)
    assert qemu.version_number == qemu.version[0] * 1_000_000 + qemu.version[1] * 1000 + qemu.version[2]
    board = qemu.machine("q35")
    assert board is not None
    assert board.name.startswith("pc-q35-")
    assert qemu.machine(board.name) is board
    assert qemu.default_machine is not None
    assert "none" not in qemu.machines
    assert {"virtio-net-pci", "e1000"} <= qemu.devices
    assert "memory-backend-memfd" in qemu.objects
    assert "server" in qemu.netdevs["stream"]
    assert "server" in qemu.chardevs["socket"]
    assert "qcow2" in qemu.blockdevs
    assert {"netdev_add", "announce-self"} <= qemu.commands
    assert "SHUTDOWN" in qemu.events
    assert "spawn" in qemu.options["sandbox"]
    assert "tcg" in qemu.accels
    assert qemu.cpus["qemu64"].usable


async def test_a_program_that_is_no_qemu_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-odd"
    program.write_text("#!/bin/sh\necho what do you want >&2\n")
    program.chmod(0o755)
    with pytest.raises(InternalError, match="what do you want"):
        await probe_emulator(program)


async def test_an_emulator_that_is_missing_is_an_error() -> None:
    with pytest.raises(SystemFailure, match="Cannot check QEMU binary /nonexistent: No such file"):
        await probe_emulator(Path("/nonexistent"))


def test_a_schema_with_wrapped_and_empty_variants_is_understood() -> None:
    schema = Schema(
        [
            {"name": "add", "meta-type": "command", "arg-type": "1"},
            {
                "name": "1",
                "meta-type": "object",
                "members": [{"name": "id", "type": "str"}, {"name": "b", "type": "2"}],
            },
            {
                "name": "2",
                "meta-type": "object",
                "members": [{"name": "type", "type": "3"}],
                "tag": "type",
                "variants": [{"case": "socket", "type": "4"}],
            },
            {"name": "3", "meta-type": "enum", "values": ["socket", "null"]},
            {"name": "4", "meta-type": "object", "members": [{"name": "data", "type": "5"}]},
            {"name": "5", "meta-type": "object", "members": [{"name": "addr", "type": "str"}]},
        ]
    )
    assert schema.variants("add", "b") == {"socket": frozenset({"addr"}), "null": frozenset()}
    assert schema.names("command") == {"add"}
    assert schema.variants("nonesuch") == {}


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda x: st.lists(x, max_size=3), max_leaves=5))
def test_a_schema_that_is_none_is_an_empty_one(answer: object) -> None:
    assert Schema(answer).variants("netdev_add") == {}


@needs_passt
async def test_a_passt_says_what_it_can_do() -> None:
    assert PASST is not None
    passt = await probe_passt(Path(PASST))
    assert {"fd", "foreground", "tcp-ports", "udp-ports", "address", "dns-forward"} <= passt.options
    assert passt.knows("fd")
    assert not passt.knows("nonesuch")
    assert passt.may_run.reason
    assert passt.version


HELP_2023 = """Failed to send 31 bytes to syslog
Usage: passt [OPTION]...
Failed to send 7 bytes to syslog
  -f, --foreground\tDon't run in background
  --log-size BYTES\tMaximum size of log file
    default: 1 MiB, see --other-thing
  -1, --one-off\t\tQuit after handling one single client
  -a, --address ADDR\tAssign IPv4 or IPv6 address ADDR
"""


def test_the_options_of_2023_are_found_among_its_noise() -> None:
    options, address = parse_options(HELP_2023)
    assert options == {"foreground", "log-size", "one-off", "address"}
    assert "/" not in address


def test_an_address_with_a_prefix_is_seen() -> None:
    assert "/" in parse_options("  -a, --address ADDR\tAssign IPv4 or IPv6 address ADDR[/PREFIXLEN]\n")[1]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Failed to unshare: no\\nCouldn't create user namespace: Operation not permitted", "max_user_namespaces"),
        ("No external routable interface", "by hand"),
    ],
)
async def test_a_passt_that_may_not_run_says_why(tmp_path: Path, said: str, hint: str) -> None:
    program = tmp_path / "passt"
    program.write_text(
        "#!/bin/sh\ncase $1 in --help) exit 0;; --version) echo passt x; exit 0;; esac\n"
        f'printf "{said}\\n" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    passt = await probe_passt(program)
    assert not passt.may_run
    assert passt.may_run.reason == said.rpartition("\\n")[2]
    assert hint in (passt.may_run.hint or "")
    assert not passt.needs_route


@pytest.mark.parametrize(("said", "needs"), [("Invalid port specifier %lo/1", True), ("Permission denied", False)])
async def test_a_passt_is_asked_whether_a_forward_may_name_a_link_alone(tmp_path: Path, said: str, needs: bool) -> None:
    program = tmp_path / "passt"
    program.write_text(
        "#!/bin/sh\ncase $1 in --help|--version) exit 0;; esac\n"
        f'case "$*" in *%lo/1*) echo "{said}" >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    passt = await probe_passt(program)
    assert passt.may_run
    assert passt.link_needs_address is needs


@needs_qemu
async def test_the_trial_of_kvm_passes_on_a_cpu_that_works() -> None:
    """TCG is such a CPU, so a "no" of KVM is KVM's."""
    assert QEMU is not None
    assert await probe_kvm(await probe_qemu(Path(QEMU)), accel="tcg")


@pytest.mark.parametrize(("slow", "ok"), [(2, True), (3, False)])
async def test_a_host_that_is_busy_for_a_moment_is_no_emulator(
    slow: int, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []

    async def trial(*_args: object) -> tuple[Trial, int]:
        turns.append(0.2 if len(turns) < slow else 0.001)
        return Trial(steps={"R": 0, "P": 0, "L": 0, "T": turns[-1], "S": turns[-1]}), 33

    monkeypatch.setattr("virlet.engine.probe.kvm._run", trial)
    devices = frozenset({"isa-debugcon", "isa-debug-exit"})
    qemu = QemuFacts("/qemu", "x86_64", (7, 2, 0), machines={"pc": MachineType("pc", 1)}, devices=devices)
    assert (await probe_kvm(qemu, accel="other")).ok is ok
    assert len(turns) == 3


@needs_qemu
async def test_kvm_is_judged_with_a_reason() -> None:
    assert QEMU is not None
    kvm = await probe_kvm(await probe_qemu(Path(QEMU)))
    assert kvm.reason
    assert kvm.ok or kvm.hint


@needs_qemu
async def test_an_accelerator_that_is_missing_is_a_no_in_qemus_words() -> None:
    assert QEMU is not None
    kvm = await probe_kvm(await probe_qemu(Path(QEMU)), accel="nonesuch")
    assert not kvm
    assert "nonesuch" in kvm.reason


async def test_a_qemu_without_the_devices_of_the_trial_is_believed() -> None:
    kvm = await probe_kvm(QemuFacts("/nonexistent", "x86_64", (7, 2, 0)), accel="other")
    assert kvm
    assert "lacks the devices" in kvm.reason


@pytest.mark.parametrize(
    ("steps", "said", "code", "ok", "reason"),
    [
        ({"R": 0, "P": 0, "L": 0, "T": 0.001, "S": 0.001}, b"", 33, True, "long mode"),
        ({"R": 0, "P": 0, "L": 0, "T": 0.2, "S": 0.2}, b"", 33, False, "took 200 ms"),
        ({"R": 0, "P": 0, "L": 0}, b"", None, False, "stopped (in long mode)"),
        ({"R": 0}, b"KVM internal error. Suberror: 1", None, False, "could not execute guest code (in real mode)"),
        ({}, b"no accelerator found\n", 1, False, "no accelerator found"),
        ({}, b"", 1, False, "exit status 1"),
        ({}, b"", None, False, "stopped"),
    ],
)
def test_a_trial_is_judged_by_how_far_it_came(
    steps: dict[str, float], said: bytes, code: int | None, ok: bool, reason: str
) -> None:
    kvm = judge(Trial(steps=steps, said=said), code)
    assert kvm.ok is ok
    assert reason in kvm.reason
    assert kvm.ok or kvm.hint


def test_the_firmware_starts_where_an_x86_cpu_does() -> None:
    firmware = rom()
    assert len(firmware) == 0x10000
    assert firmware[0xFFF0] == 0xE9
    jump = int.from_bytes(firmware[0xFFF1:0xFFF3], "little", signed=True)
    assert 0xFFF3 + jump == 0xFF00
    assert firmware[0xFF89:0xFF8A] == b"\xba"


def test_the_host_is_known() -> None:
    host = probe_host(Support(True))
    assert host.hostname == socket.gethostname()
    assert host.uid == os.getuid()
    assert host.memory_kib > 100_000
    assert host.cpus >= 1
    places = host.topology
    assert places.nodes * places.sockets * places.cores * places.threads >= host.cpus
    assert "lo" in host.interfaces
    assert len(host.uuid) == 36


async def test_facts_are_remembered_until_the_program_changes(tmp_path: Path) -> None:
    calls = 0

    async def probe() -> Support:
        nonlocal calls
        calls += 1
        return Support(False, f"try {calls}", "hint")

    program, cache = tmp_path / "program", Cache(tmp_path / "cache")
    program.write_text("1")
    first = await cache.get(Support, "x", file_key(program), probe)
    assert await cache.get(Support, "x", file_key(program), probe) == first
    assert calls == 1
    program.write_text("22")
    assert (await cache.get(Support, "x", file_key(program), probe)).reason == "try 2"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}', "[" * 100_000, '{"key": [1, "a"], "fact": {"ok": 1}}'])
async def test_a_damaged_cache_is_probed_again(tmp_path: Path, damage: str) -> None:
    async def probe() -> Support:
        return Support(True, "probed")

    cache = Cache(tmp_path)
    assert await cache.get(Support, "x", ["a"], probe)
    (path,) = tmp_path.iterdir()
    path.write_text(damage)
    assert (await cache.get(Support, "x", ["a"], probe)).reason == "probed"
    assert json.loads(path.read_text())["fact"]["reason"] == "probed"


async def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    async def probe() -> Support:
        return Support(True)

    (tmp_path / "file").write_text("")
    assert await Cache(tmp_path / "file").get(Support, "x", ["a"], probe)


@given(
    st.builds(CpuModel, st.text(), st.booleans(), st.frozensets(st.text()))
    | st.builds(Support, st.booleans(), st.text(), st.none() | st.text())
    | st.builds(
        QemuFacts, st.text(), st.text(), st.tuples(*[st.integers()] * 3), cpus=st.just({"a": CpuModel("a", True)})
    )
    | st.builds(PasstFacts, st.text(), st.frozensets(st.text()), st.builds(Support, st.booleans()))
)
def test_every_fact_survives_json(fact: object) -> None:
    assert from_plain(type(fact), json.loads(json.dumps(to_plain(fact)))) == fact


async def test_everything_is_gathered_once(tmp_path: Path) -> None:
    facts = await gather(Cache(tmp_path))
    assert isinstance(facts, Facts)
    assert [Path(path) for path in facts.qemu] == emulators(facts.host.arch)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = await gather(Cache(tmp_path))
    # The host is looked at each time, and its links, or the speed of its CPU, are nobody's to keep.
    assert replace(again, host=facts.host) == facts
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


async def test_a_program_that_cannot_be_asked_is_left_out(tmp_path: Path) -> None:
    facts = await gather(NOTHING, [tmp_path / "nonesuch", Path("/bin/false")])
    assert not any("false" in path or "nonesuch" in path for path in facts.qemu)


async def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(OperationTimeout, match="sleeper did not end within"):
        await run(("sleep", "1000"), "sleeper", timeout=0.05)


async def test_a_cancelled_probe_leaves_nothing() -> None:
    if QEMU is None:
        pytest.skip("no QEMU here")
    task = asyncio.ensure_future(probe_qemu(Path(QEMU)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_program_known_by_two_names_has_two_keys(tmp_path: Path) -> None:
    (tmp_path / "qemu").write_text("")
    (tmp_path / "link").symlink_to("qemu")
    assert file_key(tmp_path / "qemu") != file_key(tmp_path / "link")
    assert file_key(tmp_path / "qemu") == file_key(tmp_path / "qemu")
