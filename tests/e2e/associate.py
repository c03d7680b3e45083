"""A management layer of its own, on libvirt-python: gives a guest two connections, one cold and one hot.

``associate.py URI DOMAIN FD FD XML``, below Debian's own Python, which has libvirt's library.  It takes a step for each
line of its input and says what came of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import libvirt


def steps(uri: str, name: str, cold: str, hot: str, xml: str) -> Iterator[str]:
    conn = libvirt.open(uri)
    guest = conn.lookupByName(name)
    try:
        guest.create()
    except libvirt.libvirtError as error:
        yield f"{error.get_error_code()} {error}"
    guest.FDAssociate("net0", [int(cold)])
    guest.create()
    yield "started"
    guest.FDAssociate("net1", [int(hot)], libvirt.VIR_DOMAIN_FD_ASSOCIATE_SECLABEL_RESTORE)
    guest.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    yield "attached"
    conn.close()
    yield "closed"


libvirt.registerErrorHandler(lambda _context, _error: None, None)  # It would print what it raises as well.
taken = steps(*sys.argv[1:])
for _line in sys.stdin:
    print(next(taken), flush=True)
