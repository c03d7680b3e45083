"""All handlers of all programs."""

from __future__ import annotations

from virlet.daemon.dispatch import Handler, Table
from virlet.wire.procedure import AnyProcedure

__all__ = ["all_handlers"]


def all_handlers() -> dict[AnyProcedure, Handler]:
    """The table that connections dispatch by."""
    from virlet.daemon import (
        procs_connect,
        procs_devices,
        procs_domain,
        procs_events,
        procs_host,
        procs_lifecycle,
        procs_lists,
        procs_stats,
        procs_virlet,
    )

    table = Table()
    modules = (
        procs_connect,
        procs_domain,
        procs_lifecycle,
        procs_devices,
        procs_events,
        procs_host,
        procs_lists,
        procs_stats,
        procs_virlet,
    )
    table.update(module.TABLE for module in modules)
    return table.handlers
