"""Another user's connection over a real socket."""

from __future__ import annotations

import os

from virlet.daemon.compat import Compat
from virlet.daemon.listener import Listener
from virlet.daemon.server import Server


async def test_a_client_of_another_uid_is_hung_up_on(kit, tmp_path, caplog):
    # A process cannot change its uid without a privilege, so the server is told that it belongs to somebody else.
    server = Server(Compat(tmp_path / "c", tmp_path / "l"), uid=os.getuid() + 1)
    server.listen(Listener(tmp_path / "s"))
    stranger = kit.RawClient(tmp_path / "s")
    assert await stranger.hear() == b""
    assert not server.connections
    assert "is not the owner of this daemon" in caplog.text
    stranger.close()
    await server.close()
