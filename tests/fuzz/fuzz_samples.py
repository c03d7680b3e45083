"""Status files as virletd writes them, with everything in them that can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

from virlet.engine.status import FORMAT, Attaching, HelperRecord, Phase, Record
from virlet.enums import DomainState
from virlet.plan.base import (
    Dial,
    Forward,
    HelperPlan,
    Joined,
    Json,
    Listener,
    LogFile,
    OnLoss,
    OpenTap,
    PairEnd,
    Ready,
)
from virlet.proc.identity import ProcessIdentity

__all__ = ["RECORDS"]

_DIAL, _PAIR = Dial(Path("/r/net0")), PairEnd("net1", 1, datagram=True)
_PASST = HelperPlan(
    "passt",
    ("/usr/bin/passt", "--fd", _DIAL, Joined(("fds=", _DIAL, ":3")), Json({"a": (1, None, {"b": _DIAL, "c": 1.5})})),
    (_DIAL,),
    Ready.PORTS_LISTEN,
    OnLoss.RESTART,
    forwards=(Forward("tcp", "::1", None, 1, 2, 3, "devices/interface[1]"),),
    forwards_all=("udp",),
    stderr=LogFile(Path("/s/net0.log")),
    leaves=(Path("/r/net0"),),
)
_SLIRP = HelperPlan("slirp", ("/h", _PAIR), (_PAIR, Listener(Path("/r/l"), 2)), Ready.SPAWNED, OnLoss.REUSE)
_HELPER = HelperRecord("net0", "hostnet0", _PASST, ProcessIdentity(18, 4712, "boot"), 2, inodes=(1, 2))
_ONE = Record(
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
    helpers=(_HELPER, HelperRecord("net1", "hostnet1", _SLIRP, gave_up=True)),
    leaves=(Path("/r/monitor"),),
    put_back=(OpenTap("net2", "tap0"),),
    attaching=(Attaching("net3", "hostnet3", "<interface/>", _HELPER),),
)
RECORDS = (_ONE, replace(_ONE, qemu=None, helpers=(), attaching=(), put_back=(), phase=Phase.STARTING))
