"""A guest that is called otherwise, running or not, has its status, log and directories after every ``kill -9``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from faultstand import DOMAIN, PASST, Stand, free_ports

from virlet.client.sync import Connection, Domain
from virlet.errors import OperationFailed

pytestmark = [pytest.mark.faults]

UUID = "7d6bcd80-9d5b-4c6f-9d1e-5d8c4f8c1a0{}"


class House:
    """Guests by number, under any name."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.ports = free_ports(2)

    def xml(self, name: str, number: int = 0) -> str:
        nic = PASST.format(n=number, port=self.ports[number])
        return DOMAIN.format(name=name, uuid=f"<uuid>{UUID.format(number)}</uuid>", extra="", devices=nic)

    def file(self, number: int = 0) -> Path:
        return self.stand.base / "c/virlet/domains" / f"{UUID.format(number)}.xml"

    def renamed(self, name: str, other: str, number: int = 0) -> None:
        """By hand, while no daemon runs."""
        text = self.file(number).read_text()
        assert f"<name>{name}</name>" in text
        self.file(number).write_text(text.replace(f"<name>{name}</name>", f"<name>{other}</name>"))

    def again(self) -> None:
        self.stand.end(signal.SIGKILL)
        assert self.stand.begin(), self.stand.log()

    def is_whole(self, connection: Connection, name: str) -> Domain:
        """Running under that name, with its network, its log and all that belongs to it."""
        self.stand.consistent(connection)
        domain = connection.lookup_by_name(name)
        assert domain.is_active()
        assert f"<name>{name}</name>" in domain.xml()
        assert self.stand.answers(self.ports[0])
        assert b"starts" in domain.logs("qemu", 0, 1 << 16)[0]
        return domain


@pytest.fixture
def house(stand: Stand) -> House:
    assert stand.begin()
    return House(stand)


def test_a_running_guest_keeps_its_name_whatever_is_tried(stand: Stand, house: House) -> None:
    with stand.client() as connection:
        connection.define(house.xml("first")).start()
        with pytest.raises(OperationFailed, match="'first' is already defined with uuid"):
            connection.define(house.xml("second"))
        connection.lookup_by_name("first").undefine()
        with pytest.raises(OperationFailed, match="'first' is already defined with uuid"):
            connection.define(house.xml("second"))
        with pytest.raises(OperationFailed, match="'first' already exists"):
            connection.define(house.xml("first", 1))
    house.again()
    with stand.client() as connection:
        domain = house.is_whole(connection, "first")
        assert not domain.is_persistent()
        connection.define(house.xml("first"))
        assert domain.is_persistent()
    house.again()
    with stand.client() as connection:
        house.is_whole(connection, "first")
        stand.nothing(connection)


def test_one_that_was_off_is_itself_under_its_new_name(stand: Stand, house: House) -> None:
    with stand.client() as connection:
        domain = connection.define(house.xml("first"))
        domain.start()
        domain.destroy()
        domain.undefine()
        connection.define(house.xml("second")).start()
    house.again()
    with stand.client() as connection:
        domain = house.is_whole(connection, "second")
        said = domain.logs("qemu", 0, 1 << 20)[0]
        assert b"'first'" in said
        assert b"'second'" in said
        stand.nothing(connection)


def test_a_definition_renamed_behind_our_back_renames_the_guest(stand: Stand, house: House) -> None:
    with stand.client() as connection:
        connection.define(house.xml("first")).start()
    stand.end(signal.SIGKILL)
    house.renamed("first", "second")
    assert stand.begin()
    with stand.client() as connection:
        house.is_whole(connection, "second")
    house.again()
    with stand.client() as connection:
        house.is_whole(connection, "second")
        assert [domain.name for domain in connection.domains()] == ["second"]
        connection.define(house.xml("first", 1))
        stand.nothing(connection)


def test_a_running_guest_whose_name_was_given_away_is_reached_by_its_uuid(stand: Stand, house: House) -> None:
    with stand.client() as connection:
        connection.create(house.xml("first"))
        connection.define(house.xml("second", 1))
    stand.end(signal.SIGKILL)
    house.renamed("second", "first", 1)
    assert stand.begin()
    with stand.client() as connection:
        stand.consistent(connection)
        assert str(connection.lookup_by_name("first").uuid) == UUID.format(1)
        running = connection.lookup_by_uuid(UUID.format(0))
        assert running.is_active()
        assert any(UUID.format(0) in each for each in connection.doctor()["problems"])
        running.destroy()
        assert not connection.lookup_by_name("first").is_active()
        stand.nothing(connection)
