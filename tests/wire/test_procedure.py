"""virlet.wire.procedure and the generated modules: the whole table, and how cheap it is."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from virlet.wire import keepalive, qemu, remote, types, virlet
from virlet.wire.procedure import PROGRAMS, Event, Procedure, Program, StreamKind, by_number, event_by_number
from virlet.wire.schema import split_fields
from virlet.wire.xdr import DecodeError

ROOT = Path(__file__).parents[2]
TABLES: list[Program] = [import_module("virlet.wire." + module).PROGRAM for module in PROGRAMS.values()]


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "script/gen-procedures", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_program_ids_are_those_of_their_tables() -> None:
    for (number, version), module in PROGRAMS.items():
        table: Program = import_module("virlet.wire." + module).PROGRAM
        assert (table.id, table.version) == (number, version)


@pytest.mark.parametrize("table", TABLES, ids=[table.module for table in TABLES])
def test_every_payload_compiles_and_round_trips_its_smallest_value(table: Program) -> None:
    """All zero bytes decode to something (absent, empty, 0) that encodes to the same bytes again."""
    module = import_module(table.module)
    for name in table.rows:
        one = getattr(module, name)
        for part in ("args", "ret", "msg"):
            decode = getattr(one, f"decode_{part}", None)
            if decode is None or getattr(one, f"{part}_type") is None:
                continue
            value = decode(bytes(4096))
            encode = getattr(one, f"encode_{part}")
            assert set(encode(value)) <= {0}, name
            assert decode(encode(value)) == value
            assert isinstance(value, getattr(one, f"{part}_type"))
            if encode(value):
                with pytest.raises(DecodeError):
                    decode(encode(value)[:-1])


def test_every_number_leads_to_its_procedure() -> None:
    for table in TABLES:
        for name, row in table.rows.items():
            found = table.by_number(row[0])
            assert found is table.get(name)
            assert by_number(table.id, table.version, row[0]) is (found if isinstance(found, Procedure) else None)
            assert event_by_number(table.id, table.version, row[0]) is (found if isinstance(found, Event) else None)
    assert by_number(0x20008086, 1, 0) is None
    assert by_number(0x20008086, 1, -1) is None
    assert by_number(0x20008086, 2, 1) is None
    assert event_by_number(1, 1, 1) is None


def test_known_facts_of_known_procedures() -> None:
    lookup = remote.DOMAIN_LOOKUP_BY_NAME
    assert (lookup.program, lookup.version, lookup.number) == (0x20008086, 1, 23)
    assert lookup.priority
    assert lookup.api == "virDomainLookupByName"
    assert remote.DOMAIN_CREATE.acl == "domain:start"
    assert not remote.DOMAIN_CREATE.priority
    assert not remote.AUTH_LIST.auth_required
    assert remote.DOMAIN_OPEN_CONSOLE.stream is StreamKind.READ
    assert remote.STORAGE_VOL_UPLOAD.stream is StreamKind.WRITE
    assert qemu.DOMAIN_MONITOR_COMMAND.program == 0x20008087
    assert virlet.EXPLAIN.program == 0x20766C74
    assert keepalive.PING.number == 1
    assert repr(lookup) == "<Procedure DOMAIN_LOOKUP_BY_NAME 0x20008086/23>"


def test_golden_bytes_of_common_payloads() -> None:
    info = remote.DomainGetInfoRet(state=1, maxMem=2, memory=3, nrVirtCpu=4, cpuTime=5)
    assert remote.DOMAIN_GET_INFO.encode_ret(info).hex() == (
        "00000001" "0000000000000002" "0000000000000003" "00000004" "0000000000000005"
    )  # fmt: skip
    node = remote.NodeGetInfoRet(b"x86_64", 1, 2, 3, 4, 5, 6, 7)
    assert len(remote.NODE_GET_INFO.encode_ret(node)) == 160
    domain = types.Domain("vm", bytes(range(16)), -1)
    assert remote.DOMAIN_LOOKUP_BY_NAME.encode_ret(remote.DomainLookupByNameRet(domain)).hex() == (
        "00000002" "766d0000" "000102030405060708090a0b0c0d0e0f" "ffffffff"
    )  # fmt: skip
    wake = remote.DomainEventCallbackPmwakeupMsg(1, 0, types.DomainEventPmwakeupMsg(domain))
    assert remote.DOMAIN_EVENT_CALLBACK_PMWAKEUP.encode_msg(wake).hex().startswith("000000010000000000000002")


def test_go_libvirts_marker_of_presence_is_understood() -> None:
    payload = bytes.fromhex("01000000 00000001 61000000 00000000")
    assert remote.CONNECT_OPEN.decode_args(payload) == remote.ConnectOpenArgs("a", 0)


def test_void_is_none_and_takes_no_bytes() -> None:
    assert remote.CONNECT_GET_TYPE.encode_args(None) == b""
    assert remote.CONNECT_GET_TYPE.decode_args(b"whatever") is None


def test_names_that_do_not_exist_are_attribute_errors() -> None:
    for module, name in [
        (remote, "DOMAIN_FLY"),
        (remote, "DomainFlyArgs"),
        (remote, "ConnectCloseRet"),
        (types, "Cat"),
    ]:
        with pytest.raises(AttributeError):
            getattr(module, name)


def test_the_table_has_no_field_twice() -> None:
    for table in TABLES:
        for name, row in table.rows.items():
            for line in row[1:3]:
                fields = [field for field, _ in split_fields(str(line or ""))]
                assert len(fields) == len(set(fields)), name


def test_importing_every_program_builds_nothing() -> None:
    code = "import sys; from virlet.wire import remote; sys.exit(len(remote.PROGRAM._made))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
