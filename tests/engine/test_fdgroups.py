"""Descriptors that clients have given."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from uuid import UUID

import pytest

from virlet.engine import fdgroups
from virlet.engine.fdgroups import FdGroups, kind_of
from virlet.engine.fds import FdTable
from virlet.errors import InvalidArg, OperationFailed, SystemFailure
from virlet.plan.base import Given, PairEnd

ONE, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture
def groups() -> Iterator[FdGroups]:
    made = FdGroups()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


Pair = tuple[socket.socket, socket.socket]


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_group_is_a_copy_and_lasts_as_long_as_its_connection(groups: FdGroups, pair: Pair) -> None:
    owner, before = object(), count()
    groups.associate(ONE, "net0", [pair[0].fileno()], owner)
    assert groups.kinds(ONE) == {"net0": ("stream",)}
    assert groups.kinds(OTHER) == {}
    pair[0].close()
    pair[1].sendall(b"")  # Somebody has the other end.
    groups.owner_gone(object())
    assert groups.kinds(ONE)
    groups.owner_gone(owner)
    assert groups.kinds(ONE) == {}
    assert pair[1].recv(1) == b""
    assert count() == before - 1


def test_a_group_of_the_same_name_replaces_the_former(groups: FdGroups, pair: Pair) -> None:
    groups.associate(ONE, "net0", [pair[0].fileno()] * 3, self := object())
    before = count()
    groups.associate(ONE, "net0", [pair[0].fileno()], self)
    assert count() == before - 2
    assert groups.kinds(ONE) == {"net0": ("stream",)}


def test_what_is_lent_is_closed_with_the_table_and_stays_in_the_group(groups: FdGroups, pair: Pair) -> None:
    groups.associate(ONE, "net0", [pair[0].fileno()], object())
    before = count()
    with FdTable() as table:
        groups.lend(ONE, (Given("net0"), PairEnd("other", 0), Given("net0")), table)
        assert os.fstat(table[Given("net0")]).st_ino == os.fstat(pair[0].fileno()).st_ino
        assert not os.get_inheritable(table[Given("net0")])
        assert count() == before + 1
        for missing in (Given("net1"), Given("net0", 1)):
            with pytest.raises(InvalidArg, match="was not associated"):
                groups.lend(ONE, (missing,), table)
    assert count() == before
    groups.domain_gone(ONE)
    assert count() == before - 1


def test_nothing_nameless_and_too_much_are_refused(groups: FdGroups, pair: Pair) -> None:
    number, owner = pair[0].fileno(), object()
    with pytest.raises(InvalidArg, match="must not be zero"):
        groups.associate(ONE, "net0", [], owner)
    for name in ("", "x" * (fdgroups.LONGEST + 1)):
        with pytest.raises(InvalidArg, match="the name of a file descriptor group"):
            groups.associate(ONE, name, [number], owner)
    for n in range(fdgroups.MOST // 32):
        groups.associate(ONE, f"g{n}", [number] * 32, owner)
    before = count()
    with pytest.raises(OperationFailed, match="256 are the most"):
        groups.associate(OTHER, "more", [number], owner)
    groups.associate(ONE, "g0", [number] * 32, owner)
    groups.associate(OTHER, "more", [number], object())
    assert count() == before + 1
    groups.close()
    assert count() == before - fdgroups.MOST


def test_a_descriptor_that_cannot_be_copied_leaves_nothing(groups: FdGroups, pair: Pair) -> None:
    before = count()
    with pytest.raises(SystemFailure, match="Bad file descriptor"):
        groups.associate(ONE, "net0", [pair[0].fileno(), 1 << 20], object())
    assert count() == before
    assert groups.kinds(ONE) == {}


def test_kinds(pair: Pair) -> None:
    before = count()
    assert kind_of(pair[0].fileno()) == "stream"
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        with end:
            assert kind_of(end.fileno()) == "datagram"
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
        with end:
            assert kind_of(end.fileno()) == "it is a socket of another type"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loose:
        assert kind_of(listener.fileno()) == "it listens"
        assert kind_of(loose.fileno()) == "it is not connected"
    with open("/dev/null") as null:
        assert kind_of(null.fileno()) == "it is no socket"
    assert count() == before
