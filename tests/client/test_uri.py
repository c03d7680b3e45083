"""virlet.client.uri: which socket a URI leads to, and what the server is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from virlet.client.uri import resolve
from virlet.errors import InvalidArg, NoConnect, OperationUnsupported, VirletError

ENV = {"HOME": "/home/ada", "XDG_RUNTIME_DIR": "/run/user/7"}
OWN = Path("/run/user/7/virlet/virletd.sock")
LEGACY, DIRECT = Path("/run/user/7/libvirt/libvirt-sock"), Path("/run/user/7/libvirt/virtqemud-sock")


@pytest.mark.parametrize(
    ("uri", "name", "sockets"),
    [
        (None, "qemu:///session", [OWN]),
        ("virlet:///session", "qemu:///session", [OWN]),
        ("virlet://", "qemu:///session", [OWN]),
        ("test:///default", "test:///default", [OWN]),
        ("virlet:///session?socket=/x/y", "qemu:///session", [Path("/x/y")]),
        ("test+unix:///default?socket=/x/y", "test:///default", [Path("/x/y")]),
        ("qemu:///session", "qemu:///session", [DIRECT, LEGACY]),
        ("qemu+unix:///session", "qemu:///session", [DIRECT, LEGACY]),
        ("qemu:///session?mode=legacy", "qemu:///session", [LEGACY]),
        ("qemu:///session?mode=direct", "qemu:///session", [DIRECT]),
        ("qemu:///session?socket=%2Fa%20b&foo=bar&no_verify=1", "qemu:///session?foo=bar", [Path("/a b")]),
        ("qemu:///session?name=other:///x", "other:///x", [DIRECT, LEGACY]),
        ("remote:///session?mode=legacy", "", [LEGACY]),
        (
            "qemu:///system",
            "qemu:///system",
            [Path("/var/run/libvirt/virtqemud-sock"), Path("/var/run/libvirt/libvirt-sock")],
        ),
        ("lxc:///system?mode=direct", "lxc:///system", [Path("/var/run/libvirt/virtlxcd-sock")]),
    ],
)
def test_uris_lead_to_sockets_and_names(uri: str | None, name: str, sockets: list[Path]) -> None:
    target = resolve(uri, ENV, 7)
    assert target.name == name
    assert list(target.sockets) == sockets


def test_only_our_own_daemon_is_started() -> None:
    assert resolve(None, ENV, 7).autostart
    assert resolve("test:///default", ENV, 7).autostart
    assert not resolve(None, {**ENV, "VIRLET_AUTOSTART": "0"}, 7).autostart
    assert not resolve("virlet:///session?socket=/x", ENV, 7).autostart
    assert not resolve("qemu:///session", ENV, 7).autostart


def test_the_environment_may_name_another_default() -> None:
    assert resolve(None, {**ENV, "VIRLET_URI": "qemu:///session"}, 7).sockets == (DIRECT, LEGACY)
    assert resolve("virlet:///session", {**ENV, "VIRLET_URI": "qemu:///session"}, 7).sockets == (OWN,)


def test_readonly_has_a_socket_of_its_own_only_in_the_system_daemon() -> None:
    assert resolve("qemu:///system?mode=legacy", ENV, 7, readonly=True).sockets[0].name == "libvirt-sock-ro"
    assert resolve("qemu:///session?mode=legacy", ENV, 7, readonly=True).sockets[0].name == "libvirt-sock"


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("hello", InvalidArg),
        ("qemu://[::/session", InvalidArg),
        ("qemu:///session?socket=a%00b", InvalidArg),
        ("qemu+unix://host/session", InvalidArg),
        ("qemu+pigeon:///session", InvalidArg),
        ("qemu:///session?mode=other", InvalidArg),
        ("qemu+ssh://host/session", OperationUnsupported),
        ("qemu://host/system", OperationUnsupported),
        ("virlet:///elsewhere", NoConnect),
    ],
)
def test_uris_that_lead_nowhere_say_so_with_a_next_step(uri: str, kind: type[VirletError]) -> None:
    with pytest.raises(kind, match=r"hint|no connection URI|zero byte"):
        resolve(uri, ENV, 7)
