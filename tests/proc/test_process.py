from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import threading

import pytest

from virlet.errors import OperationTimeout
from virlet.proc.identity import ProcessIdentity, alive, boot_id, identify
from virlet.proc.process import ExitStatus, Process
from virlet.proc.spawn import Command, spawn


async def sleeper() -> Process:
    return await spawn(Command(("sleep", "1000")), "sleeper")


async def stubborn() -> Process:
    """A process that ignores SIGTERM, and has done so since before this returns."""
    read, write = os.pipe()
    command = Command(("sh", "-c", "trap '' TERM; echo ready; exec sleep 1000"), stdout=write)
    process = await spawn(command, "stubborn")
    os.close(write)
    assert os.read(read, 100) == b"ready\n"
    os.close(read)
    return process


async def test_the_exit_status_of_a_child_is_known() -> None:
    process = await spawn(Command(("sh", "-c", "exit 3")), "three")
    assert await process.exited() == ExitStatus(code=3)
    assert not process.running
    assert str(process.status) == "exit status 3"


async def test_a_child_ended_by_a_signal_says_which() -> None:
    process = await sleeper()
    assert process.signal(signal.SIGKILL)
    assert await process.exited() == ExitStatus(signal=9)
    assert str(process.status) == "signal SIGKILL"


async def test_a_signal_to_an_ended_process_goes_nowhere() -> None:
    process = await spawn(Command(("true",)), "true")
    await process.exited()
    assert not process.signal(signal.SIGTERM)


async def test_what_a_script_has_started_ends_with_it() -> None:
    read, write = os.pipe()
    script = await spawn(Command(("sh", "-c", "sleep 1000 & echo $!; wait"), stdout=write), "script")
    os.close(write)
    child = os.pidfd_open(int(os.read(read, 100)))
    os.close(read)
    await script.terminate(5)
    await asyncio.to_thread(select.select, [child], [], [], 30)
    assert select.select([child], [], [], 0)[0]
    os.close(child)


async def test_several_can_wait_and_one_of_them_can_give_up() -> None:
    process = await sleeper()
    first, second = asyncio.ensure_future(process.exited()), asyncio.ensure_future(process.exited())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    process.signal(signal.SIGTERM)
    assert await second == ExitStatus(signal=15)


async def test_callbacks_are_called_once_early_or_late() -> None:
    process = await sleeper()
    seen: list[ExitStatus | None] = []
    process.on_exit(seen.append)
    process.signal(signal.SIGTERM)
    await process.exited()
    process.on_exit(seen.append)
    await asyncio.sleep(0)
    assert seen == [ExitStatus(signal=15)] * 2


async def test_terminate_is_sigterm_first() -> None:
    process = await sleeper()
    assert await process.terminate(5) == ExitStatus(signal=15)


async def test_terminate_kills_after_the_grace() -> None:
    process = await stubborn()
    assert await process.terminate(0.05) == ExitStatus(signal=9)


async def test_terminate_without_kill_leaves_it_and_says_so() -> None:
    process = await stubborn()
    with pytest.raises(OperationTimeout, match=r"stubborn .* did not end within 0\.05 s"):
        await process.terminate(0.05, kill=False)
    assert process.running
    process.signal(signal.SIGKILL)
    await process.exited()


async def test_terminate_can_be_cancelled_and_done_again() -> None:
    process = await stubborn()
    task = asyncio.ensure_future(process.terminate(1000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await process.terminate(0) == ExitStatus(signal=9)


def orphan() -> ProcessIdentity:
    """A process whose parent has gone."""
    shell = subprocess.run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True)
    identity = identify(int(shell.stdout))
    assert identity is not None
    return identity


async def test_a_process_that_is_not_our_child_can_be_adopted_and_ended() -> None:
    identity = orphan()
    process = Process.adopt(identity, "orphan")
    assert process is not None
    await process.terminate(5)
    assert not alive(identity)


async def test_an_ended_process_cannot_be_adopted() -> None:
    process = await spawn(Command(("true",)), "true")
    await process.exited()
    assert Process.adopt(process.identity, "gone") is None


async def test_a_pid_that_is_a_threads_by_now_cannot_be_adopted() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert thread.native_id is not None
    try:
        assert Process.adopt(ProcessIdentity(thread.native_id, 1, boot_id()), "thread") is None
    finally:
        over.set()
        thread.join()


async def test_a_stranger_with_the_same_pid_is_not_adopted() -> None:
    us = identify(os.getpid())
    assert us is not None
    assert Process.adopt(ProcessIdentity(us.pid, us.start_time + 1, us.boot_id), "stranger") is None


async def test_close_forgets_the_process_and_leaves_it_running() -> None:
    process = await sleeper()
    process.close()
    assert alive(process.identity)
    again = Process.adopt(process.identity, "again")
    assert again is not None
    # It is our child all the same, so its status is known.
    assert await again.terminate(5) == ExitStatus(signal=15)
