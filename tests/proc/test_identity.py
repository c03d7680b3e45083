from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.proc.identity import ProcessIdentity, alive, boot_id, identify, identify_child


def test_we_are_alive_and_stay_the_same_process() -> None:
    us = identify(os.getpid())
    assert us is not None
    assert us == identify(os.getpid())
    assert alive(us)


def test_a_pid_given_to_another_process_is_another_identity() -> None:
    us = identify(os.getpid())
    assert us is not None
    assert not alive(replace(us, start_time=us.start_time - 1))


def test_a_process_of_another_boot_is_dead() -> None:
    us = identify(os.getpid())
    assert us is not None
    assert not alive(replace(us, boot_id="0" * 36))


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        identity = identify_child(child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identify(child.pid) is None
        assert not alive(identity)


def test_a_pid_that_nobody_has_is_no_process() -> None:
    assert identify(2**22 + 1) is None
    with pytest.raises(ProcessLookupError):
        identify_child(2**22 + 1)


def test_a_command_name_may_contain_blanks_and_parentheses(tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("odd") / "a) R 1 (b"
    os.symlink("/bin/cat", program)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as child:
        identity = identify(child.pid)
        assert identity is not None
        assert alive(identity)
        assert child.stdin is not None
        child.stdin.close()


@given(st.integers(1, 2**22), st.integers(0, 2**63), st.text())
def test_an_identity_survives_json(pid: int, start: int, boot: str) -> None:
    identity = ProcessIdentity(pid, start, boot)
    assert ProcessIdentity.from_json(identity.to_json()) == identity


@given(st.dictionaries(st.sampled_from(["pid", "start_time", "boot_id", "x"]), st.none() | st.booleans() | st.floats()))
def test_other_json_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not the identity"):
        ProcessIdentity.from_json(data)


def test_the_boot_id_is_a_uuid() -> None:
    assert len(boot_id()) == 36
