"""Every parser that reads what somebody else wrote, and what each promises."""

from __future__ import annotations

import json
import struct
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

from fuzz_monitor import GREETING, talk
from fuzz_samples import HMP_SAYS, PASST_HELP, PASST_SAYS
from fuzz_seeds import (
    DOMAINS,
    JSON_WORDS,
    ODD_DOMAINS,
    ODD_XML,
    PROGRAMS,
    SLIRP_LINES,
    WIRE_WORDS,
    XML_WORDS,
    client_says,
    device_xml,
    facts_files,
    files_of,
    image_headers,
    netlink_says,
    qemu_says,
    server_says,
    status_files,
    streams,
    texts,
    words_of,
)
from fuzzing import Target, pieces
from qemu.qmp.error import ProtocolError
from qemu.qmp.message import Message

from virlet.client.uri import resolve
from virlet.daemon.main import parse_settings
from virlet.engine import live
from virlet.engine.probe import passt as probe_passt
from virlet.engine.probe import qemu as probe_qemu
from virlet.engine.probe.cache import from_plain, to_plain
from virlet.engine.status import parse_record, print_record
from virlet.engine.store import parse_definition, print_definition
from virlet.engine.supervision import forked
from virlet.errors import BadConfig, Problem, RpcError, VirletError
from virlet.model.domain import format_device, format_domain, parse_device, parse_domain
from virlet.model.fresh import Fresh
from virlet.model.interface import Interface
from virlet.net.forwards import clashes, flatten, spec
from virlet.net.refuse import refuse
from virlet.net.rules import rules_of
from virlet.plan.facts import QemuFacts
from virlet.plan.follow import copied
from virlet.plan.images import parse_header, reference
from virlet.proc import links
from virlet.proc.routes import concerns_routes
from virlet.qmp import monitor
from virlet.slirp.options import BadOption, parse_options
from virlet.wire import remote
from virlet.wire.faults import decode_error, encode_error
from virlet.wire.link import Broken, Call, ClientLink, ServerLink
from virlet.wire.procedure import Event, Procedure
from virlet.wire.xdr import DecodeError, EncodeError
from virlet.xml.parser import Limits, parse

__all__ = ["TARGETS"]


# XML


class _Same(Fresh):
    """What the XML lacks is the same each time."""

    def uuid(self) -> UUID:
        return UUID(int=1)

    def mac(self) -> str:
        return "52:54:00:00:00:01"


def xml(data: bytes) -> None:
    root = parse(data)
    assert root.tag
    # As the daemon gets it, and with limits that an input of this size can reach.
    parse(data.decode("utf-8", "surrogateescape"), limits=Limits(size=8000, elements=60, attributes=80, prefixes=6))


def domain(data: bytes) -> None:
    found, _ = parse_domain(data, fresh=_Same())
    text = format_domain(found, inactive=True, secure=True)
    again = format_domain(parse_domain(text)[0], inactive=True, secure=True)
    assert format_domain(parse_domain(again)[0], inactive=True, secure=True) == again


def device(data: bytes) -> None:
    found, _ = parse_device(data.decode("utf-8", "replace"), fresh=_Same())
    text = format_device(found, secure=True)
    again = format_device(parse_device(text)[0], secure=True)
    assert format_device(parse_device(again)[0], secure=True) == again
    if isinstance(found, Interface):
        rules = rules_of(found, "interface")
        forwards = [forward for rule in rules for forward in flatten(rule)]
        # Every range in itself makes sense, or a start is refused.
        good = not list(refuse(found, "interface"))
        assert not good or all(each.start <= each.end <= 65_535 >= each.to for each in forwards)
        for rule in rules:
            word = spec(rule)
            assert not set(word) & set(" \t\n\0\"'"), word
        list(zip(clashes(forwards), range(1000), strict=False))


# RPC


def server(data: bytes) -> None:
    whole = _served([data])
    for split in pieces(data):
        assert _served(split) == whole, "what arrives in pieces means something else"
    _descriptors(data)


def _served(split: list[bytes]) -> tuple[list[object], bytes]:
    """Two streams are open already, one of them with holes."""
    link = ServerLink(program.id for program in PROGRAMS)
    console = remote.DOMAIN_OPEN_CONSOLE
    link.reply(Call(console, 9, b"", ()), None, sparse=True)
    link.reply(Call(console, 1, b"", ()), None)
    events: list[object] = []
    said = b""
    for piece in split:
        events += map(_shown, link.feed(piece))
        said += link.to_send()
    assert link.close() == []
    return events, said


def _shown(event: object) -> object:
    if isinstance(event, Broken):
        return ("broken", event.error.message)
    if isinstance(event, Call):
        try:
            return (event.procedure.name, event.serial, repr(event.procedure.decode_args(event.payload)))
        except DecodeError:
            return (event.procedure.name, event.serial, "undecodable")
    return repr(event)


def _descriptors(data: bytes) -> None:
    """Each descriptor that comes is somebody's, once."""
    link = ServerLink([remote.PROGRAM.id])
    given = [1001, 1002, 1003]
    taken = [fd for event in link.feed(data, given) if isinstance(event, Call) for fd in event.fds]
    assert sorted(taken + link.close()) == given


def client(data: bytes) -> None:
    whole = _answered([data])
    for split in pieces(data):
        assert _answered(split) == whole, "what arrives in pieces means something else"


def _answered(split: list[bytes]) -> tuple[list[str], bytes]:
    link = ClientLink()
    link.call(remote.CONNECT_GET_VERSION, None)
    link.call(remote.CONNECT_LIST_ALL_DOMAINS, (1, 0))
    link.call(remote.DOMAIN_OPEN_CONSOLE, (("a", bytes(16), 1), None, 0), sparse=True)
    link.abandon(link.call(remote.DOMAIN_OPEN_CONSOLE, (("a", bytes(16), 1), None, 0)).serial)
    events, said = [], b""
    for piece in split:
        for event in link.feed(piece):
            error = getattr(event, "error", None)
            events.append(f"{type(event).__name__} {error.message}" if error is not None else repr(event))
        said += link.to_send()
    link.close()
    return events, said


@cache
def _codecs() -> list[tuple[str, object, object]]:
    """(name, decoder, encoder) of everything that has a payload."""
    found = []
    for program in PROGRAMS:
        for name in program.rows:
            one = program.get(name)
            if isinstance(one, Procedure):
                found.append((f"{name} args", one.decode_args, one.encode_args))
                found.append((f"{name} ret", one.decode_ret, one.encode_ret))
            elif isinstance(one, Event):
                found.append((f"{name} msg", one.decode_msg, one.encode_msg))
    return found


def xdr(data: bytes) -> None:
    codecs = _codecs()
    name, decoder, encoder = codecs[int.from_bytes(data[:2], "big") % len(codecs)]
    value = decoder(data[2:])
    try:
        again = encoder(value)
    except EncodeError:
        return  # A string with a byte that no string of ours may have.
    assert repr(decoder(again)) == repr(value), name
    assert len(again) <= 4 * len(data) + 64, "a value is far larger than what it came in"


def _payloads() -> list[bytes]:
    found = []
    for number, (name, _, _) in enumerate(_codecs()):
        if number % 9 == 0 or any(word in name for word in ("STATS", "MIGRATE", "TYPED", "LIST_ALL", "ERROR", "OPEN")):
            body = b"".join(struct.pack(">I", word) for word in (1, 1, 0x61000000, 1, 1, 0x62000000)) + bytes(48)
            found.append(struct.pack(">H", number) + body)
    return found


def fault(data: bytes) -> None:
    error = decode_error(data)
    assert isinstance(error, VirletError)
    again = decode_error(encode_error(error))
    assert again.code == error.code
    assert decode_error(encode_error(again)).message == again.message


# What QEMU says


class Refused(Exception):
    """Not for us."""


def qmp(data: bytes) -> None:
    try:
        message = Message(data)
    except (ProtocolError, ValueError, RecursionError) as error:
        raise Refused from error  # By the library; the target "monitor" sees what becomes of it.
    event = monitor._event(message)
    assert event is None or (event.name == message["event"] and event.time >= 0)
    answer = message.get("return")
    assert all(path.startswith("/dev/pts/") and path[9:].isdigit() for path in live.pty_paths(answer).values())
    assert all(0 <= port < 100_000 for port in live.vnc_ports(answer))
    schema = probe_qemu.Schema(answer)
    for kind in ("command", "event"):
        schema.names(kind)
    for command in ("netdev_add", "blockdev-add", "object-add"):
        schema.variants(command)
    schema.variants("chardev-add", "backend")
    probe_qemu._names(answer), probe_qemu._options(answer)
    list(probe_qemu._machines(answer)), list(probe_qemu._cpu_models(answer))


# Files


def status(data: bytes) -> None:
    record = parse_record(data)
    assert parse_record(print_record(record)) == record


def definition(data: bytes) -> None:
    stored = parse_definition(UUID(int=1), data)
    assert parse_definition(UUID(int=1), print_definition(stored)) == stored


def fact(data: bytes) -> None:
    found = from_plain(QemuFacts, json.loads(data))
    assert isinstance(found, QemuFacts)
    assert from_plain(QemuFacts, json.loads(json.dumps(to_plain(found)))) == found


def settings(data: bytes) -> None:
    found = parse_settings(data, Path("virletd.toml"))
    for name, value in found.items():
        assert type(value) in (int, float, bool, str), name


def image(data: bytes) -> None:
    named = parse_header(data)
    for name in (named.backing, named.data_file):
        assert name is None or len(name) <= 1023
        found = reference(Path("/images/top"), name, named.backing_format) if name else None
        assert found is None or "\0" not in str(found.path)
        assert found is None or found.path.is_absolute()


def netlink(data: bytes) -> None:
    assert isinstance(concerns_routes(data), bool)
    assert sum(len(value) for value in links._attributes(data).values()) <= len(data) + 4


# Words


def uri(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for readonly in (False, True):
        found = resolve(text, {"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1"}, 1, readonly=readonly)
        assert found.sockets
        assert all("\0" not in str(path) for path in found.sockets)


def slirp(data: bytes) -> None:
    words = data.decode("utf-8", "surrogateescape").split("\0")
    if any(word in ("-h", "--help") for word in words):
        return
    found = parse_options(words)
    if found is not None:
        assert found.fd is not None
        assert all(1 <= each.port <= 65_535 and 1 <= each.to <= 65_535 for each in found.host_forwards)


def passt_help(data: bytes) -> None:
    options, address = probe_passt.parse_options(data.decode("utf-8", "replace"))
    assert all(option and not option.startswith("-") for option in options)
    assert "\n" not in address


def passt_log(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for given in ((), ("--address", "192.0.2.9", "--gateway", "2001:db8::1"), ("--netmask", "24")):
        words = copied(text, given)
        assert len(words) % 2 == 0
        for option, value in zip(words[::2], words[1::2], strict=True):
            assert option in ("--address", "--netmask", "--gateway")
            assert not ip_address(value).is_unspecified


def hmp(data: bytes) -> None:
    pid = forked._pid_in(forked._said_of(data.decode("utf-8", "replace"), "passt-net0"))
    assert 0 <= pid < 10**9


_XML = ("xml/loader.py", r"xml/kinds.py:\.parse$|^_[a-z]+$", "xml/sizes.py")

ANSWER = b'{"return": {"status": "running"}, "id": "__qmp#00000"}\r\n'
LISTED = BadConfig([Problem("a", "b", hint="c")])
TARGETS = (
    Target("xml", "a tree or an error with line and column", xml, lambda: [*files_of(*DOMAINS), *ODD_XML], XML_WORDS,
           ("xml/parser.py",), spared="^(Node|_Builder.__init__)"),
    Target("domain", "a domain that is printed and read again the same from the second time on, or an error", domain,
           lambda: [*files_of(*DOMAINS), *ODD_DOMAINS], XML_WORDS, _XML),
    Target("device", "the same for one device; forwards inside the ports that exist, no word of passt's with a blank",
           device, device_xml, XML_WORDS,
           ("net/forwards.py", "net/rules.py:^rule", "model/passt.py")),
    Target("rpc-server", "the same events whole and byte by byte, each descriptor once; never an exception", server,
           lambda: [*client_says(), *streams()], WIRE_WORDS,
           ("wire/packet.py:Framer", "wire/link.py:ServerLink.(feed|_on)|^_Link"),
           errors=()),
    Target("rpc-client", "the same events whole and byte by byte; never an exception", client, server_says, WIRE_WORDS,
           ("wire/packet.py:Framer", "wire/link.py:ClientLink.(feed|_on)|^_Link"), errors=()),
    Target("xdr", "what is decoded is encoded and decoded the same, and not much larger", xdr, _payloads, WIRE_WORDS,
           (r"wire/xdr.py:get|_count_at|_narrowed|Codec.decode",), errors=(DecodeError,),
           spared="_get_uuid$"),  # every UUID of the table is part of a run of scalars
    Target("rpc-error", "always an error of ours, that survives the way back", fault,
           lambda: [encode_error(each) for each in (RpcError("no"), VirletError("what", hint="next"), LISTED)],
           WIRE_WORDS, ("wire/faults.py",), errors=()),
    Target("qmp", "events and answers of the right types, whatever QEMU says", qmp, qemu_says, JSON_WORDS,
           ("qmp/monitor.py:^_event", "engine/live.py:^(pty_paths|vnc_ports)",
            "engine/probe/qemu.py:^(Schema|_objects|_names|_options|_machines|_text|_cpu_models)"),
           errors=(Refused,)),
    Target("status", "a record that is printed and read again the same, or ValueError", status, status_files,
           (*JSON_WORDS, b'"$":"Listener"', b'"$":"Joined"', b'"path":"/x"', b'"phase":"running"'),
           ("engine/codec.py:^(decode|_)", "engine/status.py:^(parse|print)_record"), errors=(ValueError,)),
    Target("definition", "a definition that is printed and read again the same, or ValueError", definition,
           lambda: texts('<?virlet format="1" host="0123" autostart="yes"?>\n<domain/>',
                          '<?virlet format="1" host="" autostart="no"?>\n<domain>é</domain>'),
           words_of('<?virlet |format="1"|host="|autostart="|yes|no|"|?>\n|?>|\n|<domain/>|é|\0'),
           ("engine/store.py:^(parse|print)_definition",), errors=(ValueError,)),
    Target("fact", "a fact that is written and read again the same, or an error that has it probed anew", fact,
           facts_files,
           (*JSON_WORDS, b'"path":"/x"', b'"version":[7,2,0]', b'"netdevs":{}', b'"stream"'),
           ("engine/probe/cache.py:^(from_plain|to_plain|_expect|_shared|_members)",),
           errors=(ValueError, TypeError, KeyError, RecursionError)),
    Target("passt-log", "pairs of an option and an address; never an exception", passt_log, lambda: texts(*PASST_SAYS),
           words_of("DHCP:\n|NDP/DHCPv6:\n|    assign: |    mask: |    router: |192.0.2.1|::1|fe80::1|0.0.0.0|\n|\t"),
           ("plan/follow.py:^(copied|_given|_address)",), errors=()),
    Target("hmp", "a process id of at most nine digits, 0 for none; never an exception", hmp,
           lambda: texts(*HMP_SAYS),
           words_of("passt-net0: |connected to pid |4711|99999999999| |\n|\r|index=0,|²|\0|:"),
           ("engine/supervision/forked.py:^_(pid_in|said_of)",), errors=()),
    Target("settings", "settings of the right types, or an error that names the file", settings,
           lambda: texts('timeout = 600\nverbose = true\nslirp_helper = "/x"\nconfine = false\n', "timeout = 1.5"),
           words_of('timeout|verbose|slirp_helper|confine| = |\n|"|/x|true|false|1|1e999|nan|[|]|{|}|#|"""|."|é'),
           ("daemon/main.py:^parse_settings",)),
    Target("image", "names of at most 1023 bytes and absolute paths, or ValueError", image, image_headers,
           (*WIRE_WORDS, b"QFI\xfb", b"QED\0", b"\xe2\x79\x2a\xca", b"DATA", b"json:{", b'"file":', b'"filename":"/x"',
            b"file:", b"nbd://h", *JSON_WORDS), ("plan/images.py",), errors=(ValueError,)),
    Target("netlink", "whether it matters; never an exception, and no attribute longer than the message", netlink,
           netlink_says, (*(each[::-1] for each in WIRE_WORDS[:15]), *WIRE_WORDS),
           ("proc/routes.py:^(concerns_routes|_messages|_matters)", "proc/links.py:^_attributes"), errors=()),
    Target("uri", "a server and sockets, or an error of ours", uri,
           lambda: texts("qemu:///session", "virlet:///session?socket=/x", "qemu+ssh://u@h/system", "test:///default",
                          "qemu+unix:///session?mode=direct&x=%20", "remote:///?name=qemu:///session"),
           words_of("qemu|virlet|test|remote|+|unix|ssh|tcp|://|:|/|session|system|default|?|&|;|=|socket|name|mode|auto|"
                  "legacy|%00|%|é|[|]|[::1]|@|host|\0| |#"), ("client/uri.py",)),
    Target("slirp", "options inside their bounds, or one error", slirp,
           lambda: [line.replace("|", "\0").encode() for line in SLIRP_LINES],
           words_of("--fd|--fd=3|--net|--mask|--host|--dhcp-start|--dns|--net6|--hostfwd|--guestfwd|--mtu|--disable-ipv4|"
                  "--prefix-ipv6|--prefix-length-ipv6|--guest-mac|--restrict|\0|=|tcp|udp|:|-|[::1]|10.0.2.3|/24|99999|"
                  "0|22|cmd|unix|/x|é|²|-1| "), ("slirp/options.py",), errors=(BadOption,), spared="_Parser"),
    Target("passt-help", "options without dashes; never an exception", passt_help,
           lambda: texts(*PASST_HELP),
           words_of("  -a, |--address| ADDR/PREFIX|\n|--|-|--fd| |\t|é|\0|--no-map-gw|1.5: "),
           ("engine/probe/passt.py:^parse_options",), errors=()),
    Target("monitor", "answers, events and errors of ours; the connection is closed and no task is left", talk,
           lambda: [GREETING, *(GREETING + each + b"\r\n" + ANSWER for each in qemu_says()), GREETING + ANSWER + ANSWER,
                    GREETING + ANSWER[:20], GREETING[:50], b"", b"\r\n", GREETING + b'{"event": "STOP"}\r\n'],
           (*JSON_WORDS, GREETING, ANSWER, b"\r\n", b'{"return": {}, "id": "', b"__qmp#00000"),
           ("qmp/monitor.py:^_event|_cause|_deliver|_hang_up",), errors=()),
)  # fmt: skip
