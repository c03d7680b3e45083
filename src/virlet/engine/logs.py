"""The logs of a running guest, kept below a size while its processes write them."""

from __future__ import annotations

import logging

from virlet.engine.guest import Run
from virlet.errors import SystemFailure
from virlet.proc.logfile import cap

__all__ = ["cap_logs"]

log = logging.getLogger(__name__)


def cap_logs(run: Run) -> None:
    """Rotate what has grown too large; a log that cannot be rotated is reported, and harms nobody else."""
    paths = [run.record.log]
    paths += [each.record.plan.stderr.path for each in run.helpers.values() if each.record.plan.stderr is not None]
    for path in paths:
        try:
            cap(path)
        except SystemFailure as error:
            log.warning("%s", error)
