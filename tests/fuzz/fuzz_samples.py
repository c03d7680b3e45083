"""Status files as virletd writes them, with everything in them that can be; and what programs of others have said."""

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

__all__ = ["HMP_SAYS", "PASST_HELP", "PASST_SAYS", "RECORDS"]

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

PASST_SAYS = (
    "DHCP:\n    assign: 192.0.2.15\n    mask: 255.255.255.0\n    router: 192.0.2.1\n",
    "NDP/DHCPv6:\n    assign: 2001:db8::15\n    router: fe80::1\n    our link-local: fe80::2\n",
    "No routable interface for IPv6: IPv6 is disabled\nDHCP:\n    assign: 0.0.0.0\n    mask: 24\nready\n",
    # 2023, where nobody runs a syslog
    "Failed to send 51 bytes to syslog\nTemplate interface: eth0 (IPv4), eth0 (IPv6)\n"
    "Failed to send 11 bytes to syslog\n"
    "MAC:\n    host: 02:00:00:00:00:01\nDHCP:\n    assign: 192.0.2.2\n    mask: 255.255.255.0\n"
    "    router: 192.0.2.1\nDNS:\n"
    "    192.0.2.53\nNDP/DHCPv6:\nFailed to send 26 bytes to syslog\n    assign: 2001:db8::2\n    router: 2001:db8::1\n"
    "    our link-local: fe80::fc:ff:fe00:1\n",
    # 2026
    "No IPv6 nameserver available for NDP/DHCPv6\nTemplate interface: eth0 (IPv4), eth0 (IPv6)\nMAC:\n"
    "    host: 9a:55:9a:55:9a:55\n    NAT to host 127.0.0.1: 192.0.2.1\nDHCP:\n    assign: 192.0.2.2\n"
    "    mask: 255.255.255.0\n    router: 192.0.2.1\nDNS:\n    192.0.2.53\n"
    "    NAT to host ::1: 2001:db8::1\nNDP/DHCPv6:\n"
    "    assign: 2001:db8::2\n    router: 2001:db8::1\n    our link-local: fe80::fc:ff:fe00:1\n"
    "Inbound forwarding rules (HOST):\n    TCP [127.0.0.1]:34567  =>  22 \nClient connection closed, exiting\n",
)
"""passt's words about the addresses that it copied from its host."""

PASST_HELP = (
    "Usage\n  -a, --address ADDR[/PREFIX_LEN]\n  -t, --tcp-ports SPEC\n    --fd FD\n",
    # 2023
    "Failed to send 26 bytes to syslog\nUsage: passt [OPTION]...\n\n  -d, --debug\t\tmore\n      --trace\t\tmore\n"
    "  --runas UID|UID:GID \tas whom\n    default: another\n  -F, --fd FD\t\tsocket\n  --outbound-if4 NAME\twhere\n"
    "  -a, --address ADDR\tof the guest\n  --no-map-gw\t\tnot\n  -4, --ipv4-only\tonly\n  -t, --tcp-ports SPEC\tports\n"
    "    default: from --outbound-if4 and --outbound-if6\n        -t 22:23\tone to another\n        -t ~25\t\tnot\n",
    # 2026
    "Usage: passt [OPTION]...\n\n  --stats DELAY  \tfigures\n  -c, --conf-path PATH\tsocket\n"
    "  -s, --socket, --socket-path PATH\tpath\n  --vhost-user\t\tmemory\n"
    "    UNIX domain socket is provided by -s option\n"
    "  --migrate-exit\tOLD:\n\t\t\tnot for long\n  -a, --address ADDR[/PREFIXLEN]\tof the guest\n"
    "  --map-host-loopback ADDR\tthe host\n  -H, --hostname NAME \tname\n      PORTS is a list\n"
    "        -t ::1/all\tone\n",
)
"""The form of its help in two generations: options and what they take, in other words."""

HMP_SAYS = (
    # QEMU 11.1 with other netdevs, and when the port has been taken off the hub
    "hub 7\r\n \\ hub-net0: passt-net0: index=0,type=passt,stream,connected to pid 2092\r\n"
    " \\ hostnet0: net0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r\n"
    "s1: index=0,type=stream,listening\r\nu1: index=0,type=user,net=10.0.2.0,restrict=off\r\n",
    "hub 7\r\n \\ hostnet0: net0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r\n"
    "passt-net0: index=0,type=passt,stream,connected to pid 2096\r\n",
    "unknown command: 'info net'\r\n",
    "hub 0\n \\ hub0port1: passt-net0: index=0,type=passt,stream,connected to pid 4711\n",
    "passt-net0: index=0,type=passt,not connected\n",
)
