"""One connection of a ``--guestfwd …-tcp:HOST:PORT``: libslirp gives us the guest's end as standard input."""

from __future__ import annotations

import selectors
import socket
import sys
from collections.abc import Sequence

__all__ = ["main", "pump"]

_CHUNK = 1 << 16


def main(argv: Sequence[str]) -> int:
    """Join standard input, which is a socket, with TCP port *argv[1]* of *argv[0]*; 1 when nobody is there."""
    host, port = argv
    guest = socket.socket(fileno=0)
    try:
        # Addresses alone, and no name: looking one up would need files that a confined process has not.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        target = socket.socket(family)
        target.connect((host, int(port)))
    except OSError as error:
        print(f"virlet-slirp-helper: cannot reach {host} port {port} for the guest: {error.strerror}", file=sys.stderr)
        return 1
    pump(guest, target)
    return 0


def pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until both ways have ended."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while ready.get_map():
            for key, _ in ready.select():
                source, target = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                try:
                    data = source.recv(_CHUNK)
                    if data:
                        target.sendall(data)
                        continue
                    target.shutdown(socket.SHUT_WR)
                except OSError:
                    return  # One side has reset the connection: so do we, by ending.
                ready.unregister(source)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
