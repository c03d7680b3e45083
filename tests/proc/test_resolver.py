"""The host's nameservers are read, and every way to change them is noticed."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.proc.resolver import ResolverWatch, nameservers

ONE, OTHER = "nameserver 10.0.0.1\n", "nameserver 10.0.0.2\n"


def test_nameservers_are_read_in_order_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 9.9.9.9\nsearch a.example\nnameserver\nnameserver ::1 # local\n" + ONE + "nameserverx 1\n"
    )
    assert nameservers(path) == ("::1", "10.0.0.1")
    assert nameservers(tmp_path / "none") == ()
    assert nameservers(tmp_path) == ()


@given(st.binary(max_size=200))
def test_whatever_the_file_holds_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_bytes(data)
    assert all(word and not word.isspace() for word in nameservers(path))


class Host:
    """``etc/resolv.conf``, a link to what a manager keeps in ``run``."""

    def __init__(self, base: Path) -> None:
        self.etc, self.run = base / "etc", base / "run" / "manager"
        self.etc.mkdir()
        self.run.mkdir(parents=True)
        self.path, self.real = self.etc / "resolv.conf", self.run / "real.conf"
        self.real.write_text(ONE)
        self.path.symlink_to("../run/manager/real.conf")

    def over(self, path: Path, text: str) -> None:
        """Rename a new file over *path*."""
        fresh = path.with_name(".fresh")
        fresh.write_text(text)
        fresh.replace(path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def watch(host: Host) -> Iterator[ResolverWatch]:
    one = ResolverWatch(host.path)
    yield one
    one.close()


def noticed(watch: ResolverWatch, wait: float = 1) -> bool:
    """Whether it has become readable for something that matters."""
    while select.select([watch], [], [], wait)[0]:
        if watch.read():
            return True
        wait = 0
    return False


def link_elsewhere(host: Host) -> None:
    (host.run / "other.conf").write_text(OTHER)
    fresh = host.etc / "fresh"
    fresh.symlink_to(host.run / "other.conf")
    fresh.replace(host.path)


def no_link_any_more(host: Host) -> None:
    host.over(host.path, OTHER)


def removed_and_made_again(host: Host) -> None:
    host.path.unlink()
    host.path.write_text(OTHER)


def directory_made_anew(host: Host) -> None:
    host.run.rename(host.run.with_name("was"))
    host.run.mkdir()
    host.real.write_text(OTHER)


WAYS: list[Callable[[Host], object]] = [
    lambda host: host.real.write_text(OTHER),
    lambda host: host.over(host.real, OTHER),
    link_elsewhere,
    no_link_any_more,
    removed_and_made_again,
    directory_made_anew,
]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_other_nameservers_is_noticed_and_watched_further(
    way: Callable[[Host], object], host: Host, watch: ResolverWatch
) -> None:
    assert not noticed(watch, 0)
    way(host)
    assert noticed(watch)
    while noticed(watch, 0.02):
        pass
    assert nameservers(host.path) == ("10.0.0.2",)
    assert not noticed(watch, 0)
    host.over(host.path.resolve(), ONE)
    assert noticed(watch)
    assert nameservers(host.path) == ("10.0.0.1",)


def test_a_file_that_is_mounted_there_is_written_to_from_elsewhere(host: Host, tmp_path: Path) -> None:
    # As under a bind mount, the change has another directory and name; the inode is the same.
    os.link(host.real, tmp_path / "outside")
    watch = ResolverWatch(host.real)
    (tmp_path / "outside").write_text(OTHER)
    assert noticed(watch)
    watch.close()


def test_what_is_not_there_yet_is_noticed_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.symlink_to("run/manager/real.conf")
    watch = ResolverWatch(path)
    for directory in (tmp_path / "run", tmp_path / "run/manager"):
        directory.mkdir()
        assert noticed(watch)
    (tmp_path / "run/manager/real.conf").write_text(ONE)
    assert noticed(watch)
    assert nameservers(path) == ("10.0.0.1",)
    watch.close()


def test_other_files_beside_it_are_nobodys_business(host: Host, watch: ResolverWatch) -> None:
    for directory in (host.etc, host.run):
        (directory / "passwd").write_text("")
        (directory / "passwd").unlink()
    assert not noticed(watch, 0.05)


def test_links_that_go_round_end_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    watch = ResolverWatch(tmp_path / "a")
    (tmp_path / "a").unlink()
    assert noticed(watch)
    watch.close()
