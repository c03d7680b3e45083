"""``<virlet:param>``: words that passt is given as they are, but for what the XML says elsewhere or what is ours."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.errors import Problem
from virlet.model.passt import PasstOptions
from virlet.plan.facts import PasstFacts

__all__ = ["check_params"]

_OURS = (
    "fd", "socket", "socket-path", "foreground", "stderr", "one-off", "pid", "vhost-user", "runas", "help", "version",
    "print-capabilities", "netns", "userns", "config-net",
)  # fmt: skip
_SAID = {
    "debug": "<virlet:passt debug='yes'>",
    "trace": "<virlet:passt trace='yes'>",
    "quiet": "<virlet:passt quiet='yes'>",
    "pcap": "<virlet:passt pcap-file='…'>",
    "log-file": "<backend type='passt' logFile='…'/>",
    "mtu": "<mtu size='…'/>",
    "address": "<ip address='…'/>",
    "netmask": "<ip address='…' prefix='…'/>",
    "mac-addr": "<virlet:passt mac='…'>",
    "gateway": "<route gateway='…'/>",
    "interface": "<source dev='…'/>",
    "outbound": "<virlet:outbound address='…'/>",
    "outbound-if4": "<virlet:passt outbound-if4='…'>",
    "outbound-if6": "<virlet:passt outbound-if6='…'>",
    "dns": "<virlet:dns address='…'/>",
    "search": "<virlet:search domain='…'/>",
    "hostname": "<backend type='passt' hostname='…'/>",
    "fqdn": "<backend type='passt' fqdn='…'/>",
    "no-dhcp-dns": "<virlet:passt dhcp-dns='no'>",
    "no-dhcp-search": "<virlet:passt dhcp-search='no'>",
    "map-host-loopback": "<virlet:map-host-loopback address='…'/>",
    "no-map-gw": "<virlet:map-host-loopback address='none'/>",
    "map-guest-addr": "<virlet:map-guest-addr address='…'/>",
    "dns-forward": "<virlet:dns-forward address='…'/>",
    "dns-host": "<virlet:dns-host address='…'/>",
    "no-tcp": "<virlet:passt tcp='no'>",
    "no-udp": "<virlet:passt udp='no'>",
    "no-icmp": "<virlet:passt icmp='no'>",
    "no-dhcp": "<virlet:passt dhcp='no'>",
    "no-ndp": "<virlet:passt ndp='no'>",
    "no-dhcpv6": "<virlet:passt dhcpv6='no'>",
    "no-ra": "<virlet:passt ra='no'>",
    "freebind": "<virlet:passt freebind='yes'>",
    "ipv4-only": "<virlet:passt ipv6='no'>",
    "ipv6-only": "<virlet:passt ipv4='no'>",
    "tcp-ports": "<portForward proto='tcp'>",
    "udp-ports": "<portForward proto='udp'>",
}


def check_params(options: PasstOptions, path: str, passt: PasstFacts) -> Iterator[Problem]:
    """What of the params of the ``<virlet:passt>`` at *path* may not be said, or this passt does not know."""
    before = ""
    for number, param in enumerate(options.params, 1):
        where, word = f"{path}/virlet:param[{number}]/@value", param.value
        if word.startswith("--") and len(word) > 2:
            yield from _long(word[2:].partition("=")[0], where, passt)
        elif word.startswith("-"):
            yield Problem(where, f"'{word}' is not the long name of an option", hint="use the name with two dashes")
        elif not before.startswith("--") or "=" in before:
            yield Problem(where, f"'{word}' follows no option of passt's", hint="begin with an option: --NAME")
        before = word


def _long(name: str, where: str, passt: PasstFacts) -> Iterator[Problem]:
    """getopt_long(3) takes every beginning of a name that fits one alone."""
    known = passt.options | _SAID.keys() | frozenset(_OURS)
    meant = {name} if name in known else {other for other in known if other.startswith(name)}
    ours = sorted(meant.intersection(_OURS))
    said = sorted(meant.intersection(_SAID))
    if ours:
        yield Problem(where, f"--{ours[0]} is virlet's to say: it connects and watches passt", hint="leave it out")
    elif said:
        yield Problem(where, f"--{said[0]} has a word of its own in the XML", hint=f"use {_SAID[said[0]]}")
    elif not meant & passt.options:
        yield Problem(where, f"the passt of this host ({passt.path}) has no --{name}", hint="use a newer passt")
