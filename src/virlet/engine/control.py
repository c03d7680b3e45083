"""Whether a guest can be asked for something now: ``virsh domcontrol``."""

from __future__ import annotations

from virlet.engine.api import Control
from virlet.engine.guest import Guest
from virlet.enums import ControlErrorReason, ControlState

__all__ = ["control"]


def control(guest: Guest) -> Control:
    """As in libvirt, a monitor that is gone comes before one that is silent, and that before a job.

    Raises :class:`OperationInvalid` when the guest does not run.
    """
    monitor = guest.running().monitor
    if monitor.closed.done():
        return Control(ControlState.ERROR, ControlErrorReason.MONITOR)
    if (seconds := monitor.unanswered) is not None:
        return Control(ControlState.OCCUPIED, milliseconds=round(seconds * 1000))
    if (seconds := guest.job.lasts) is not None:
        return Control(ControlState.JOB, milliseconds=round(seconds * 1000))
    return Control(ControlState.OK)
