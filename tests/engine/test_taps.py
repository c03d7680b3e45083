"""Programs that open taps for us, by stand-ins that speak as they do; and the user's own scripts."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from virlet.engine.fds import FdTable
from virlet.engine.status import FORMAT, DownScript, Phase, Record, parse_record, print_record
from virlet.engine.taps import downscripts, leave, open_all, run_script
from virlet.enums import DomainState
from virlet.errors import ConfigUnsupported, InternalError, SystemFailure
from virlet.model.domain import parse_interface
from virlet.plan.base import BridgeTap, LogFile, OpenVhost

HELPER = """#!{python}
import array, os, socket, sys
{work}
"""
SENDS = """
fd = int(sys.argv[-1].partition("=")[2])
with socket.socket(fileno=fd) as sock:
    numbers = array.array("i", [os.open("/dev/null", os.O_RDWR)] * {count})
    sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
"""


RECORD = Record(
    FORMAT, Phase.RUNNING, UUID(int=1), "one", 1, True, False, DomainState.RUNNING, 0, "", Path("/m"), Path("/l")
)


def helper(folder: Path, work: str) -> str:
    path = folder / "helper"
    path.write_text(HELPER.format(python=sys.executable, work=work))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("work", "said", "hint"),
    [
        ("sys.exit('access denied by acl file')", "stderr=access denied by acl file", "echo 'allow br0'"),
        ("sys.exit('cannot open /dev/net/tun: Operation not permitted')", "not permitted", "chmod u+s"),
        ("sys.exit(3)", "stderr=exit status 3", "--br=br0"),
    ],
)
async def test_a_helper_that_refuses_is_quoted_with_the_command_that_helps(
    work: str, said: str, hint: str, tmp_path: Path
) -> None:
    source = BridgeTap("net0", "br0", helper(tmp_path, work), vnet_hdr=True)
    with FdTable() as fds:
        with pytest.raises(SystemFailure) as caught:
            await open_all(fds, (source,))
        assert source not in fds
    assert f"{source.helper} --use-vnet --br=br0 --fd=" in caught.value.detail
    assert "failed to communicate with bridge helper" in caught.value.detail
    assert said in caught.value.detail
    assert caught.value.detail.endswith("Transport endpoint is not connected")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("count", [1, 3])
async def test_what_is_no_tap_is_not_given_to_qemu_and_every_descriptor_is_closed(count: int, tmp_path: Path) -> None:
    source = BridgeTap("net0", "br0", helper(tmp_path, SENDS.format(count=count)))
    with FdTable() as fds, pytest.raises(SystemFailure, match="is no tap device"):
        await open_all(fds, (source,))


async def test_other_sources_are_opened_as_ever(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    stand_in = tmp_path / "vhost-net"
    stand_in.touch()
    vhosts = tuple(OpenVhost("net0", number, str(stand_in)) for number in range(2))
    with FdTable() as fds:
        await open_all(fds, (log, *vhosts))
        assert len({fds[source] for source in (log, *vhosts)}) == 3
        assert os.readlink(f"/proc/self/fd/{fds[vhosts[0]]}") == str(stand_in)
    with FdTable() as fds, pytest.raises(ConfigUnsupported, match="vhost-net was requested"):
        await open_all(fds, (OpenVhost("net0", path=str(tmp_path / "absent")),))


async def test_a_script_is_told_the_device_and_its_failure_is_an_error_with_its_words(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\necho bad >&2\n[ "$1" = good ]\n')
    script.chmod(0o755)
    await run_script(str(script), "good")
    with pytest.raises(InternalError, match="unexpected exit status 1: bad"):
        await run_script(str(script), "other")


async def test_what_interfaces_leave_to_be_run_is_run_for_all_or_for_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n[ "$1" = d0 ]\n')
    script.chmod(0o755)
    text = "<interface type='ethernet'><alias name='net{0}'/><target dev='d{0}'/><downscript path='{1}'/></interface>"
    nics = [parse_interface(text.format(number, script), live=True)[0] for number in range(2)]
    record = replace(RECORD, down=downscripts(nics))
    assert record.down == (DownScript("net0", str(script), "d0"), DownScript("net1", str(script), "d1"))
    assert parse_record(print_record(record)) == record
    await leave(record, "net1")
    assert (tmp_path / "said").read_text().split() == ["d1"]
    assert "exit status 1" in caplog.text
    await leave(record)
    assert (tmp_path / "said").read_text().split() == ["d1", "d0", "d1"]
