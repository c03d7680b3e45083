"""What one call costs in the wire layer alone: microseconds for each step, best of several runs.

python bench/xdr.py
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

from virlet.wire import remote, types
from virlet.wire.events import Call
from virlet.wire.link import ClientLink, ServerLink

ROUNDS = 20_000
DOM = types.Domain("web-server-01", bytes(range(16)), 7)


def cost(run: Callable[[], object]) -> float:
    """Microseconds of one run."""
    return min(timeit.repeat(run, number=ROUNDS, repeat=5)) / ROUNDS * 1e6


def main() -> None:
    lookup, info = remote.DOMAIN_LOOKUP_BY_NAME, remote.DOMAIN_GET_INFO
    name, found = remote.DomainLookupByNameArgs(DOM.name), remote.DomainLookupByNameRet(DOM)
    numbers = remote.DomainGetInfoRet(1, 1 << 20, 1 << 20, 2, 123_456_789)
    name_data, found_data = lookup.encode_args(name), lookup.encode_ret(found)
    info_data = info.encode_ret(numbers)
    server = ServerLink([remote.PROGRAM.id])
    request = ClientLink().call(lookup, name).data

    def serve() -> bytes:
        (call,) = server.feed(request)
        assert isinstance(call, Call)
        call.procedure.decode_args(call.payload)
        return server.reply(call, found)

    steps: dict[str, Callable[[], object]] = {
        "LOOKUP_BY_NAME encode arguments": lambda: lookup.encode_args(name),
        "LOOKUP_BY_NAME decode arguments": lambda: lookup.decode_args(name_data),
        "LOOKUP_BY_NAME encode result": lambda: lookup.encode_ret(found),
        "LOOKUP_BY_NAME decode result": lambda: lookup.decode_ret(found_data),
        "GET_INFO encode result": lambda: info.encode_ret(numbers),
        "GET_INFO decode result": lambda: info.decode_ret(info_data),
        "LOOKUP_BY_NAME bytes to bytes in a server": serve,
    }
    for what, run in steps.items():
        print(f"{what:45} {cost(run):6.2f} µs")


if __name__ == "__main__":
    main()
