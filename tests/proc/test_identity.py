from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

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


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 10**12])
def test_a_number_that_means_others_to_the_kernel_is_refused(pid: int) -> None:
    with pytest.raises(ValueError, match="no process has the pid"):
        ProcessIdentity(pid, 1, boot_id())


def test_the_boot_id_is_a_uuid() -> None:
    assert len(boot_id()) == 36
