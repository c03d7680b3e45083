"""The kernel's word about routes, and the routes themselves."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.errors import SystemFailure
from virlet.proc.routes import RouteWatch, concerns_routes, uplinks


def message(kind: int, body: bytes) -> bytes:
    """One netlink message in the machine's byte order."""
    order = sys.byteorder
    head = (16 + len(body)).to_bytes(4, order) + kind.to_bytes(2, order) + bytes(10)
    return head + body + bytes(-len(body) % 4)


def route(length: int = 0, kind: int = 1) -> bytes:
    """rtmsg."""
    return bytes([2, length, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0])


@pytest.mark.parametrize("kind", [24, 25])
def test_a_default_route_that_comes_or_goes_matters(kind: int) -> None:
    assert concerns_routes(message(kind, route()))
    assert concerns_routes(message(20, b"address") + message(kind, route() + b"\x08\0\x05\0\1\2\3\4"))


def test_other_routes_and_other_news_do_not() -> None:
    assert not concerns_routes(message(24, route(length=24)))
    assert not concerns_routes(message(24, route(kind=7)))
    assert not concerns_routes(message(20, bytes(8)))
    assert not concerns_routes(message(24, route()[:11]))
    assert not concerns_routes(b"")


@pytest.mark.parametrize("kind", [16, 17, 2, 4])
def test_links_and_what_was_lost_do(kind: int) -> None:
    assert concerns_routes(message(kind, b""))


def test_a_message_that_is_longer_than_its_datagram_ends_the_reading() -> None:
    whole = message(24, route())
    assert not concerns_routes(whole[:-1])
    assert not concerns_routes(bytes(16))


@given(st.binary(max_size=200))
def test_anything_is_a_yes_or_a_no(data: bytes) -> None:
    assert concerns_routes(data) in (True, False)


@given(st.lists(st.sampled_from([message(24, route()), message(20, bytes(8)), message(24, route(8))])), st.data())
def test_what_is_cut_off_changes_nothing_before_it(messages: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(messages)
    cut = data.draw(st.integers(0, len(whole)))
    if concerns_routes(whole[:cut]):
        assert concerns_routes(whole)


def test_the_hosts_links_are_numbered() -> None:
    assert uplinks().indexes["lo"] == 1
    assert all(family in (4, 6) and link for family, link in uplinks().routes)


INSIDE = """
import select, subprocess
from virlet.errors import SystemFailure
from virlet.proc.routes import RouteWatch, uplinks
watch = RouteWatch()
def heard():
    assert select.select([watch.fileno()], [], [], 5)[0], "nothing was heard"
    while True:
        found = watch.read()
        if found or not select.select([watch.fileno()], [], [], 5)[0]:
            return found
def ip(line):
    subprocess.run(["ip", *line.split()], check=True)
assert not watch.read()
ip("link add one type veth peer name two"); assert heard()
ip("link set two up")
ip("link set one up"); assert heard()
ip("address add 10.9.9.2/24 dev one")
ip("route add default via 10.9.9.1"); assert heard()
assert uplinks().routes == {(4, "one")}, uplinks()
ip("route delete default"); assert heard()
assert uplinks().routes == frozenset()
ip("route add default via 10.9.9.1"); ip("link set one down"); assert heard()
assert uplinks().routes == frozenset()
watch.close()
print("good")
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="elsewhere: no unshare(1)")
def test_a_real_kernel_tells_in_a_namespace_of_our_own() -> None:
    inside = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("elsewhere: user namespaces are forbidden here")
    done = subprocess.run(
        [*inside, sys.executable, "-c", INSIDE], capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    assert done.stdout == "good\n", done.stderr


def test_a_watch_that_is_closed_leaves_nothing() -> None:
    watch = RouteWatch()
    number = watch.fileno()
    assert not select.select([number], [], [], 0)[0]
    watch.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)


def test_what_cannot_be_read_is_not_a_host_without_a_network(
    no_descriptor: Callable[[], AbstractContextManager[None]],
) -> None:
    assert uplinks().indexes
    with no_descriptor(), pytest.raises(SystemFailure, match="routes: Too many open files"):
        uplinks()
    assert uplinks().indexes
