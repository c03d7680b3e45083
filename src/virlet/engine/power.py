"""What a user does to a running guest: suspend, resume, shut down, reboot, reset, destroy.

What is refused in which state is in the table of :mod:`virlet.model.lifecycle`.
"""

from __future__ import annotations

from virlet.engine.ending import end_qemu, remove_logs
from virlet.engine.guest import Guest, Run
from virlet.enums import (
    DestroyFlags,
    DomainState,
    PausedReason,
    ShutdownFlags,
)
from virlet.errors import ArgumentUnsupported, OperationUnsupported
from virlet.fault import point
from virlet.model.lifecycle import Action, advance

__all__ = ["destroy", "reboot", "reset", "resume", "shutdown", "suspend"]


async def suspend(guest: Guest) -> None:
    """Stop its CPUs; its network keeps what it can."""
    advance(guest.state, Action.SUSPEND)
    async with guest.job.hold("suspend"):
        if advance(guest.state, Action.SUSPEND).state is guest.state:
            return
        run = guest.running()
        run.why_stop = Action.SUSPEND
        await guest.execute("stop")
        point("suspend.stopped")
        if guest.run is run:
            guest.react(Action.SUSPEND)


async def resume(guest: Guest) -> None:
    """Let its CPUs run on; helpers that were given up are tried again."""
    advance(guest.state, Action.RESUME)
    async with guest.job.hold("resume"):
        advance(guest.state, Action.RESUME)
        run = guest.running()
        await guest.execute("cont")
        point("resume.running")
        if guest.run is run:
            guest.react(Action.RESUME)
        for helper in run.helpers.values():
            if helper.record.gave_up:
                helper.revive()


async def shutdown(guest: Guest, flags: int) -> None:
    """Press the power button; the guest decides when it is down."""
    advance(guest.state, Action.SHUTDOWN)
    _only_acpi(flags, "shutdown")
    async with guest.job.hold("shutdown"):
        _note_reboot(guest.running(), guest, wanted=False)
        await guest.execute("system_powerdown")


async def reboot(guest: Guest, flags: int) -> None:
    """Press the power button, and when the guest has powered off, reset it and let it run again."""
    advance(guest.state, Action.REBOOT)
    _only_acpi(flags, "reboot")
    async with guest.job.hold("reboot"):
        _note_reboot(guest.running(), guest, wanted=True)
        point("reboot.intended")
        await guest.execute("system_powerdown")
        point("reboot.pressed")


def _note_reboot(run: Run, guest: Guest, *, wanted: bool) -> None:
    """What the guest's next power-off means, also to a daemon that comes later."""
    if run.fake_reboot is not wanted:
        run.fake_reboot = wanted
        guest.save()


def _only_acpi(flags: int, what: str) -> None:
    if flags & ShutdownFlags.GUEST_AGENT and not flags & ShutdownFlags.ACPI_POWER_BTN:
        raise ArgumentUnsupported("QEMU guest agent is not configured", hint=f"{what} by ACPI: --mode acpi")
    others = flags & ~(ShutdownFlags.GUEST_AGENT | ShutdownFlags.ACPI_POWER_BTN)
    if others:
        raise OperationUnsupported(
            f"this way of {what} (flags {others:#x}) is not offered by QEMU", hint=f"{what} by ACPI: --mode acpi"
        )


async def reset(guest: Guest) -> None:
    """Press the reset button; a guest that had crashed runs again."""
    advance(guest.state, Action.RESET)
    async with guest.job.hold("reset"):
        run = guest.running()
        _note_reboot(run, guest, wanted=False)
        await guest.execute("system_reset")
        if guest.state is DomainState.CRASHED:
            guest.move(DomainState.PAUSED, PausedReason.CRASHED)


async def destroy(guest: Guest, flags: int) -> None:
    """End it now.  Waits for no job: whatever a job waits for ends with QEMU.

    SIGTERM lets QEMU flush its disks; SIGKILL follows after 10 s, but not with GRACEFUL.
    """
    if guest.run is None and guest.job.holder == "start":
        given_up = guest.abandon is not None
        if guest.abandon is not None:
            guest.abandon.set()
        async with guest.job.hold("destroy"):
            if given_up and guest.run is None:
                return
            guest.running()
    run = guest.running()
    await end_qemu(guest, run, Action.DESTROY, kill=not flags & DestroyFlags.GRACEFUL)
    if flags & DestroyFlags.REMOVE_LOGS:
        remove_logs(guest)
