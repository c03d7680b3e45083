from __future__ import annotations

import asyncio
import errno
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from virlet.errors import SystemFailure
from virlet.plan.rights import Grant
from virlet.proc.identity import ProcessIdentity, alive
from virlet.proc.process import ExitStatus
from virlet.proc.spawn import Command, spawn
from virlet.proc.threads import worker

NoProcess = Callable[[], AbstractContextManager[None]]


async def output(command: Command, path: Path) -> str:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        process = await spawn(
            Command(
                command.argv,
                fds=command.fds,
                env=command.env,
                stdout=fd,
                stderr=fd,
                cwd=command.cwd,
                no_new_privileges=command.no_new_privileges,
                limits=command.limits,
            ),
            "test",
        )
    finally:
        os.close(fd)
    await process.exited()
    return path.read_text()


async def test_a_child_has_the_descriptors_it_was_given_and_no_other(tmp_path: Path) -> None:
    read, write = os.pipe()
    stray = os.dup(read)
    os.set_inheritable(stray, True)
    try:
        found = await output(Command(("ls", "/proc/self/fd"), fds=(write,)), tmp_path / "out")
    finally:
        for fd in (read, write, stray):
            os.close(fd)
    # One more is the listing's own.
    assert {str(write), "0", "1", "2"} < set(found.split())
    assert len(found.split()) == 5
    assert str(stray) not in found.split() or stray == write + 1


async def test_a_child_can_gain_no_privilege_and_we_could_still(tmp_path: Path) -> None:
    command = ("grep", "NoNewPrivs", "/proc/self/status")
    assert (await output(Command(command), tmp_path / "out")).split() == ["NoNewPrivs:", "1"]
    assert "NoNewPrivs:\t0" in Path("/proc/thread-self/status").read_text()


async def test_a_child_may_keep_the_way_to_a_privilege_when_asked(tmp_path: Path) -> None:
    command = Command(("grep", "NoNewPrivs", "/proc/self/status"), no_new_privileges=False)
    assert (await output(command, tmp_path / "out")).split() == ["NoNewPrivs:", "0"]


async def test_a_child_leads_a_session_of_its_own_in_the_root_directory(tmp_path: Path) -> None:
    assert (await output(Command(("sh", "-c", "pwd; umask; cut -d' ' -f6 /proc/$$/stat; echo $$")), tmp_path / "out")
            ).split()[:2] == ["/", "0077"]  # fmt: skip
    session, own = (tmp_path / "out").read_text().split()[2:]
    assert session == own


async def test_the_environment_is_exactly_the_one_given(tmp_path: Path) -> None:
    assert await output(Command(("/usr/bin/env",), env={"A": "1"}), tmp_path / "out") == "A=1\n"


async def test_limits_hold_for_the_child_alone(tmp_path: Path) -> None:
    process = await spawn(Command(("sleep", "1000"), limits={resource.RLIMIT_CORE: (0, 0)}), "limited")
    assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0)
    process.signal(signal.SIGKILL)
    await process.exited()


@pytest.mark.parametrize(
    ("program", "text"),
    [("/nonexistent/qemu", "No such file"), ("/etc/passwd", "Permission denied"), ("/", "Permission denied")],
)
async def test_a_program_that_cannot_run_is_a_clear_error(program: str, text: str) -> None:
    with pytest.raises(SystemFailure, match=f"cannot run {program}: {text}") as caught:
        await spawn(Command((program,)), "bad")
    assert caught.value.hint


async def test_a_limit_that_cannot_be_set_leaves_no_child() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if os.geteuid() == 0:
        pytest.skip("root may raise limits")
    with pytest.raises(SystemFailure, match="Operation not permitted"):
        await spawn(Command(("sleep", "1000"), limits={resource.RLIMIT_NOFILE: (hard, hard + 1)}), "greedy")


async def test_standard_descriptors_cannot_be_passed_by_number() -> None:
    with pytest.raises(ValueError, match="stdin, stdout and stderr"):
        await spawn(Command(("true",), fds=(1,)), "bad")


async def test_a_cancelled_start_leaves_no_process() -> None:
    task = asyncio.ensure_future(spawn(Command(("sleep", "1000")), "cancelled"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The test's own check of left processes proves the rest.


async def test_one_that_is_held_becomes_its_program_when_it_is_told_to_and_stays_the_same_process(
    tmp_path: Path,
) -> None:
    out, given = tmp_path / "out", tmp_path / "given"
    given.write_text("what it was given")
    with given.open() as fd:
        script = f'echo "$0" $$; cat; cat <&{fd.fileno()}'
        with out.open("wb") as writing:
            command = Command(("/bin/bash", "-c", script, "a 'b'"), (fd.fileno(),), stdout=writing.fileno(), held=True)
            process = await spawn(command, "held")
    identity = process.identity
    assert not await process.ended_within(0.1)
    assert out.read_text() == ""
    process.proceed()
    process.proceed()  # Once is enough, twice no harm.
    assert await process.exited() == ExitStatus(code=0)
    assert out.read_text() == f"a 'b' {identity.pid}\nwhat it was given"


async def test_one_that_is_held_ends_when_it_is_ended_or_forgotten(tmp_path: Path) -> None:
    held = [await spawn(Command(("/bin/touch", str(tmp_path / "ran")), held=True), "held") for _ in range(2)]
    ended, forgotten = held
    assert await ended.terminate(5) == ExitStatus(signal=signal.SIGTERM)
    ended.proceed()
    watched = os.pidfd_open(forgotten.pid)
    forgotten.close()
    assert select.select([watched], [], [], 30)[0]
    os.waitid(os.P_PIDFD, watched, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222  # It has ended.
    os.close(watched)
    assert not (tmp_path / "ran").exists()


async def test_one_that_is_held_and_cannot_run_is_a_clear_error_at_once() -> None:
    for program, text in (("/nonexistent/passt", "No such file"), ("/etc/passwd", "Permission denied")):
        with pytest.raises(SystemFailure, match=f"cannot run {program}: {text}"):
            await spawn(Command((program,), held=True), "bad")


HOLDS = """
import asyncio, os, signal, sys
from virlet.proc.spawn import Command, spawn

async def main():
    process = await spawn(Command(("/bin/touch", sys.argv[1]), held=True), "held")
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_one_that_is_held_never_runs_when_its_starter_is_killed(tmp_path: Path) -> None:
    starter = subprocess.run([sys.executable, "-c", HOLDS, str(tmp_path / "ran")], capture_output=True, timeout=60)
    assert starter.returncode == -signal.SIGKILL, starter.stderr
    try:
        watched = os.pidfd_open(int(starter.stdout))
    except ProcessLookupError:
        pass  # It has ended, and somebody has seen that.
    else:
        assert select.select([watched], [], [], 30)[0]
        os.close(watched)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("grants", [None, ()], ids=["free", "confined"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_a_start_that_finds_no_thread_is_a_clear_error_and_never_made_up_for(
    tmp_path: Path, no_process: NoProcess, first: bool, grants: tuple[Grant, ...] | None
) -> None:
    if first:
        worker.cache_clear()
    else:
        await (await spawn(Command(("true",)), "before")).exited()
    late = tmp_path / "late"
    with no_process():
        with pytest.raises(SystemFailure, match="cannot run touch: Resource temporarily unavailable") as caught:
            await spawn(Command(("touch", str(late)), grants=grants), "refused")
        assert caught.value.errno == errno.EAGAIN
    process = await spawn(Command(("true",)), "after")
    assert Path(f"/proc/{process.pid}").exists()
    assert await process.exited() == ExitStatus(code=0)
    assert not late.exists()


async def test_a_child_that_cannot_be_identified_leaves_neither_itself_nor_a_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(pid: int) -> ProcessIdentity:
        raise ProcessLookupError(errno.ESRCH, "gone")

    monkeypatch.setattr("virlet.proc.spawn.identify_child", gone)
    with pytest.raises(SystemFailure, match="No such process"):
        await spawn(Command(("sleep", "1000")), "unknown")
    # The test's own check of processes and descriptors that were left proves the rest.


async def test_many_at_once() -> None:
    processes = await asyncio.gather(*(spawn(Command(("true",)), f"child {n}") for n in range(30)))
    assert {str(await each.exited()) for each in processes} == {str(ExitStatus(code=0))}
    assert not any(alive(each.identity) for each in processes)


def test_a_command_reads_as_one_shell_line() -> None:
    assert str(Command(("qemu", "-name", "a b", "$x"))) == "qemu -name 'a b' '$x'"


def test_what_may_not_outlive_us_is_killed_when_we_are() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from virlet.proc.spawn import Command, spawn\n"
        "async def main():\n"
        "    words = ('/bin/sh', '-c', 'echo $$; exec sleep 1000')\n"
        "    await spawn(Command(words, stdout=1, outlives_us=False), 'trial')\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
        "asyncio.run(main())\n"
    )
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    trial = os.pidfd_open(int(daemon.stdout.readline()))
    assert not select.select([trial], [], [], 0)[0]
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    assert select.select([trial], [], [], 30)[0]
    os.close(trial)
