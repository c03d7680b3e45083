"""Every procedure that is handled, called with well-formed but arbitrary arguments."""

from __future__ import annotations

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.daemon.handlers import all_handlers
from virlet.errors import VirletError
from virlet.wire import remote, types, virlet
from virlet.wire.schema import split_fields

KNOWN = bytes(range(16))
XML = "<domain><name>a</name><uuid>00010203-0405-0607-0809-0a0b0c0d0e0f</uuid><title>t</title></domain>"
SCALARS = {
    "i32": st.sampled_from([0, 1, -1]) | st.integers(-(2**31), 2**31 - 1),
    "u32": st.sampled_from([0, 0, 1, 2, 4]) | st.integers(0, 2**32 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "string": st.sampled_from(["a", XML, "qemu-argv", "", "enable", "\udcff\udc80"])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    "uuid": st.just(KNOWN) | st.binary(min_size=16, max_size=16),
}


def strategy(kind):
    """Values of one type in the table's notation."""
    if kind.endswith("?"):
        return st.none() | strategy(kind[:-1])
    if kind in SCALARS:
        return SCALARS[kind]
    if re.fullmatch(r"(char|opaque)<\d+>", kind):
        return st.binary(max_size=20)
    if array := re.fullmatch(r"(\w+)<\d+>", kind):
        return st.lists(strategy(array[1]), max_size=3)
    return st.tuples(*(strategy(inner) for _, inner in split_fields(types.SCHEMA._structs[kind])))


def calls():
    """(procedure, arguments) of any handled procedure but those that end the connection or have a bug on purpose."""
    tables = {remote.PROGRAM.id: remote.PROGRAM, virlet.PROGRAM.id: virlet.PROGRAM}
    for procedure in sorted(all_handlers(), key=lambda one: (one.program, one.number)):
        if procedure.name in ("CONNECT_CLOSE", "DOMAIN_RESET"):
            continue
        line = tables[procedure.program].rows[procedure.name][1]
        yield st.tuples(st.just(procedure), st.tuples(*(strategy(kind) for _, kind in split_fields(line or ""))))


CALLS = st.lists(st.one_of(*calls()), min_size=1, max_size=25)


@settings(max_examples=150)
@given(said=CALLS)
def test_every_call_has_an_answer_and_none_is_a_bug(kit, said):
    """Invariant: any well-formed call is answered by a result or by an error of ours, never by a bug."""
    asyncio.run(_answered(kit, said))


async def _answered(kit, said):
    async with kit.serving() as (_server, path):
        client = kit.RawClient(path)
        await client.ask(remote.CONNECT_OPEN, kit.URI, 0)
        await client.ask(remote.DOMAIN_DEFINE_XML, XML)
        for procedure, args in said:
            said_back = await _error(client, procedure, args)
            assert "bug in virletd" not in said_back, procedure
        client.close()


async def _error(client, procedure, args):
    try:
        await client.ask(procedure, *args)
    except VirletError as error:
        return error.message
    return ""
