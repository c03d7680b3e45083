"""From URIs to drivers."""

from __future__ import annotations

import pytest

from virlet.daemon.drivers import Drivers, canonical
from virlet.daemon.events import Hub
from virlet.errors import InternalError, NoConnect


@pytest.mark.parametrize(
    ("uri", "means"),
    [
        ("", "qemu:///session"),
        ("qemu:///session", "qemu:///session"),
        ("qemu:///session?foo=bar", "qemu:///session"),
        ("test:///default", "test:///default"),
        ("foo:///x", "foo:///x"),
    ],
)
def test_what_clients_add_is_dropped(uri, means):
    assert canonical(uri) == means


@pytest.mark.parametrize("uri", ["qemu://host/session", "session", "///x", "qemu://[/session"])
def test_other_hosts_and_no_uris_are_nobodys(uri):
    with pytest.raises(NoConnect) as caught:
        canonical(uri)
    assert caught.value.message == f"no connection driver available for {uri}"


def test_libvirts_words_for_other_paths():
    with pytest.raises(InternalError, match="unexpected qemu URI path '/system', try qemu:///session"):
        canonical("qemu:///system")
    with pytest.raises(InternalError, match="no qemu URI path given, try qemu:///session"):
        canonical("qemu:")


async def test_a_driver_that_nobody_installed():
    drivers = Drivers(Hub(lambda: None))
    with pytest.raises(NoConnect, match="no connection driver available for nobody:///here"):
        await drivers.open("nobody:///here")
    assert not drivers.running()
