"""Status files: what is written comes back, and whatever else is read is a ValueError."""

from __future__ import annotations

import fcntl
import json
import os
import re
from dataclasses import fields, replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.engine.status import (
    FORMAT,
    Attaching,
    DownScript,
    HelperRecord,
    Phase,
    Record,
    Returning,
    StatusDir,
    parse_record,
    print_record,
)
from virlet.enums import DomainState
from virlet.plan.base import Dial, HelperPlan, Listener, LogFile, OnLoss, Ready
from virlet.proc.identity import ProcessIdentity

PLAN = HelperPlan(
    "passt",
    ("/usr/bin/passt", "--fd", Dial(Path("/r/net0.net"))),
    (Dial(Path("/r/net0.net")),),
    Ready.PORTS_LISTEN,
    OnLoss.RESTART,
    stderr=LogFile(Path("/s/net0.log")),
)
RECORD = Record(
    format=FORMAT,
    phase=Phase.RUNNING,
    uuid=UUID(int=7),
    name="one/../two",
    id=3,
    persistent=True,
    autodestroy=False,
    state=DomainState.PAUSED,
    reason=1,
    xml="<domain/>",
    monitor=Path("/r/monitor"),
    log=Path("/s/qemu.log"),
    qemu=ProcessIdentity(17, 4711, "boot"),
    helpers=(HelperRecord("net0", "hostnet0", PLAN, ProcessIdentity(18, 4712, "boot"), 2),),
    leaves=(Path("/r/monitor"),),
)


def test_a_record_survives_the_disk() -> None:
    assert parse_record(print_record(RECORD)) == RECORD
    assert parse_record(print_record(replace(RECORD, qemu=None, helpers=()))).qemu is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_record_is_a_value_error_or_another_record(data: st.DataObject) -> None:
    whole = print_record(RECORD)
    at = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 30))
    damaged = whole[:at] + data.draw(st.binary(max_size=8)) + whole[at + length :]
    try:
        assert isinstance(parse_record(damaged), Record)
    except ValueError:
        return


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"{}", b"null", b"3", b'{"$":"Record"}', b"\xff\xfe"])
def test_what_is_no_record_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_record(data)


def within(old: object, new: object) -> bool:
    """Whether *new* says all that *old* does."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and within(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(within, old, new))
    return old == new


@pytest.mark.parametrize("name", ["format-1-first", "format-1"])
def test_a_recorded_file_means_what_it_meant(name: str) -> None:
    """Members may be added, to ``format-1.json`` as well; none may go, and no value change its spelling."""
    data = (Path(__file__).parent / "status" / f"{name}.json").read_bytes()
    record = parse_record(data)
    assert within(json.loads(data), json.loads(print_record(record)))
    assert (record.phase, record.state, record.name) == (Phase.RUNNING, DomainState.RUNNING, "one")
    passt, slirp = record.helpers
    assert (passt.plan.ready, passt.plan.on_loss) == (Ready.PORTS_LISTEN, OnLoss.RESTART)
    assert passt.plan.fds == (Dial(Path("/home/user/r/virlet/dd3a8a1dbd/net0.net")),)
    assert passt.identity is not None
    assert passt.identity.pid == 27434
    assert slirp.plan.on_loss is OnLoss.REUSE
    if name == "format-1":
        assert record.attaching[0].helper is not None
        assert (passt.coaxes, slirp.coaxes) == (120, None)
        assert record.down == (DownScript("net3", "/home/user/down", "tap0"),)
        assert (record.returning[0].alias, record.returning[0].restarts) == ("net1", 3)
        assert (record.reboots, record.begins_again, record.leaving) == (True, False, ("net4",))
    else:
        assert record.attaching == record.down == record.put_back == record.returning == slirp.inodes == ()
        assert record.unconfined == "started by an older virletd"
        assert (record.reboots, record.begins_again, record.leaving) == (False, False, ())


def test_the_recorded_file_has_every_member_there_is() -> None:
    known = json.loads((Path(__file__).parent / "status" / "format-1.json").read_bytes())
    assert known.keys() - {"$"} == {each.name for each in fields(Record)}
    assert known["helpers"][0].keys() - {"$"} == {each.name for each in fields(HelperRecord)}
    assert known["helpers"][0]["plan"].keys() - {"$"} == {each.name for each in fields(HelperPlan)}
    assert known["attaching"][0].keys() - {"$"} == {each.name for each in fields(Attaching)}
    assert known["returning"][0].keys() - {"$"} == {each.name for each in fields(Returning)}


def test_what_a_newer_virletd_says_beyond_is_passed_over() -> None:
    newer = json.loads(print_record(RECORD))
    newer["later"] = newer["qemu"]["later"] = newer["helpers"][0]["later"] = {"$": "Later", "a": [None]}
    assert parse_record(json.dumps(newer).encode()) == RECORD


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        parse_record(json.dumps({**json.loads(print_record(RECORD)), "format": FORMAT + 1}).encode())


def test_former_boots_are_forgotten_and_a_record_of_another_name_is_moved_aside(tmp_path: Path) -> None:
    old = StatusDir(tmp_path, "m", "boot1")
    old.prepare()
    old.save(RECORD)
    new = StatusDir(tmp_path, "m", "boot2")
    new.prepare()
    assert not old.path.exists()
    new.save(RECORD)
    assert list(new.load()) == [RECORD]
    (new.path / f"{RECORD.uuid}.json").rename(new.path / f"{UUID(int=8)}.json")
    assert list(new.load()) == []
    assert "its name is not its UUID" in new.problems[0]
    assert Listener(Path("/x")) == Listener(Path("/x"))


def test_a_directory_that_vanished_is_made_again(tmp_path: Path) -> None:
    status = StatusDir(tmp_path, "", "boot")
    status.save(RECORD)
    assert list(status.load()) == [RECORD]
    status.remove(RECORD.uuid)
    status.remove(RECORD.uuid)
    assert list(status.load()) == []


def test_the_directory_of_another_boot_goes_unless_a_guest_of_it_runs(tmp_path: Path) -> None:
    """Two hosts with one machine id share this home, and the daemon of the first is down."""
    theirs, ours = StatusDir(tmp_path, "same", "first"), StatusDir(tmp_path, "same", "second")
    theirs.prepare()
    theirs.save(RECORD)
    log = tmp_path / "log" / str(RECORD.uuid) / "qemu.log"
    log.parent.mkdir(parents=True)
    with log.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ours.prepare()
        (problem,) = ours.problems
        assert re.match(f"guest {RECORD.uuid} runs on another host under this one's machine id", problem)
        assert list(theirs.load()) == [RECORD]
        assert list(ours.load()) == []
    ours.prepare()
    assert not theirs.path.exists()
    assert len(ours.problems) == 1


@pytest.mark.parametrize(
    "record",
    [
        replace(RECORD, id=1 << 31),
        replace(RECORD, reason=-2),
        replace(RECORD, name="\udc80"),
        replace(RECORD, helpers=RECORD.helpers * 2),
    ],
)
def test_a_record_that_would_be_trouble_to_others_is_refused(record: Record) -> None:
    with pytest.raises(ValueError):
        parse_record(print_record(record))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    status = StatusDir(tmp_path, "m", "boot")
    status.prepare()
    os.mkfifo(status.path / f"{RECORD.uuid}.json")
    assert list(status.load()) == []
    assert "it is no file" in status.problems[0]
