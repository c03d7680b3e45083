"""Links as the kernel describes them, and taps opened, in a network namespace of our own (an unprivileged one)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from virlet.proc.links import link, links

INSIDE = """
import asyncio, json, os, subprocess, sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from virlet.engine.fds import FdTable
from virlet.engine.taps import leave
from virlet.errors import VirletError
from virlet.plan.base import OpenMacvtap, OpenTap, OpenVhost
from virlet.proc.links import link, links
from virlet.proc.tun import has_vnet_hdr, hardware_address, tap_name

def ip(*words): subprocess.run(["ip", *words], check=True)

ip("tuntap", "add", "dev", "one", "mode", "tap", "user", "0")
ip("tuntap", "add", "dev", "many", "mode", "tap", "multi_queue", "vnet_hdr")
ip("tuntap", "add", "dev", "packets", "mode", "tun")
ip("link", "add", "bridge", "type", "bridge")
ip("link", "set", "one", "up", "address", "02:00:00:00:00:07", "mtu", "1400")
said = {}
found = links(["one", "many", "packets", "bridge", "lo", "absent", "a-name-too-long-for-a-link", ""])
said["links"] = {name: asdict(item) for name, item in found.items()}
one = OpenTap("net0", "one", vnet_hdr=True)
queues = tuple(OpenTap("net1", "many", number, True, True) for number in range(3))
made = tuple(OpenTap("net2", "vnet%d", number, True, True, True, "fe:54:00:00:00:01", 1300) for number in range(2))
with FdTable() as fds:
    fds.open((one, *queues, *made))
    said["taps"] = fds.taps
    said["numbers"] = len({fds[source] for source in (one, *queues, *made)})
    said["vnet_hdr"] = [has_vnet_hdr(fds[one]), link("one").vnet_hdr]
    said["address"] = [tap_name(fds[one]), hardware_address(fds[one])]
    ours = link(fds.taps["net2"])
    said["made"] = [ours.mac, ours.mtu, ours.up]
left = SimpleNamespace(put_back=(OpenTap("net0", "one", vnet_hdr=False), OpenTap("net9", "absent")), down=())
asyncio.run(leave(left))
said["after"] = [link("one").vnet_hdr, link("many") is not None, link(said["taps"]["net2"]) is None]
errors = []
for wrong in (
    OpenTap("net0", "many"), OpenTap("net0", "one", multi_queue=True), OpenTap("net0", "bridge"),
    OpenTap("net0", "x", path="/nonexistent"), OpenVhost("net0", path="/nonexistent"),
    OpenMacvtap("mac", "/dev/null", "02:00:00:00:00:01", "246:1"), OpenMacvtap("mac", "/nonexistent", "", ""),
):
    with FdTable() as fds:
        try:
            fds.open((wrong,))
        except VirletError as error:
            errors.append([int(error.code), str(error)])
said["errors"] = errors
said["left"] = len(os.listdir("/proc/self/fd"))
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, object]:
    """What a process says that has a network of its own to play with."""
    argv = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", INSIDE]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode and "unshare failed" in done.stderr:
        pytest.skip("this host does not let users make namespaces")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_links_are_described(said: dict[str, dict[str, dict[str, object]]]) -> None:
    found = said["links"]
    assert sorted(found) == ["bridge", "lo", "many", "one", "packets"]
    one, many = found["one"], found["many"]
    assert (one["kind"], one["tap"], one["up"], one["mtu"]) == ("tun", True, True, 1400)
    assert (one["mac"], one["owner"], one["group"]) == ("02:00:00:00:00:07", 0, None)
    assert (one["multi_queue"], one["vnet_hdr"]) == (False, False)
    assert (many["multi_queue"], many["vnet_hdr"], many["owner"], many["up"]) == (True, True, None, False)
    assert not found["packets"]["tap"]
    assert found["bridge"]["kind"] == "bridge"
    assert found["lo"]["kind"] == ""


def test_taps_are_opened_once_a_queue_and_only_our_own_are_set_up(said: dict[str, object]) -> None:
    assert said["taps"] == {"net0": "one", "net1": "many", "net2": "vnet0"}
    assert said["numbers"] == 6
    assert said["vnet_hdr"] == [True, True]
    assert said["address"] == ["one", "02:00:00:00:00:07"]
    assert said["made"] == ["fe:54:00:00:00:01", 1300, True]


def test_afterwards_what_was_there_is_as_it_was_and_what_we_made_is_gone(said: dict[str, object]) -> None:
    assert said["after"] == [False, True, True]


@pytest.mark.parametrize(
    ("place", "code", "text"),
    [
        (0, 38, "Unable to set tap device many (maybe existing device was created with multi_queue flag"),
        (1, 38, "Unable to create multiple fds for tap device one (maybe existing device was created without"),
        (2, 38, "Unable to set tap device bridge"),
        (3, 38, "Unable to open /nonexistent, is tun module loaded?: No such file or directory"),
        (4, 67, "vhost-net was requested for an interface, but is unavailable"),
        (5, 38, "/dev/null is not mac: a link of another network namespace has the same number"),
        (6, 38, "unable to open /nonexistent (mac): No such file or directory"),
    ],
)
def test_what_cannot_be_opened_is_said_in_libvirts_words(
    place: int, code: int, text: str, said: dict[str, list[tuple[int, str]]]
) -> None:
    found, message = said["errors"][place]
    assert found == code
    assert text in message


def test_names_that_no_link_can_have_do_not_exist() -> None:
    assert link("") is None
    assert link("x" * 16) is None
    assert link("a\0b") is None
    assert links(["lo", "lo"]).keys() <= {"lo"}
    assert os.path.exists("/sys/class/net/lo") == bool(links(["lo"]))
