"""Valid inputs to start from, and the words that each parser knows."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fuzz_samples import RECORDS

from virlet.engine.probe.cache import to_plain
from virlet.engine.status import print_record
from virlet.errors import RpcError
from virlet.plan.facts import CpuModel, MachineType, QemuFacts
from virlet.wire import admin, lxc, qemu, remote, virlet
from virlet.wire.faults import encode_error
from virlet.wire.link import ClientLink

TESTS = Path(__file__).parents[1]
DOMAINS = ("model/golden/*.xml", "plan/golden/*.xml")
PROGRAMS = (remote.PROGRAM, virlet.PROGRAM, admin.PROGRAM, lxc.PROGRAM, qemu.PROGRAM)


def files_of(*patterns: str) -> list[bytes]:
    return [path.read_bytes() for pattern in patterns for path in sorted(TESTS.glob(pattern))]


# XML


def device_xml() -> list[bytes]:
    """The devices of the golden domains, and odd ones."""
    found = list(EXTRA_DEVICES)
    for text in files_of(*DOMAINS):
        inner = text.decode().partition("<devices>")[2].partition("</devices>")[0]
        found += [piece.encode() for piece in _elements(inner)]
    return [item for item in found if len(item) < 3000]


def _elements(text: str) -> Iterator[str]:
    """The elements beside one another in *text*."""
    depth, begin, at = 0, 0, 0
    while (at := text.find("<", at)) >= 0:
        end = text.find(">", at) + 1
        word = text[at:end]
        if word.startswith("<!"):
            pass
        elif word.startswith("</"):
            depth -= 1
        elif not word.endswith("/>"):
            begin, depth = (at if depth == 0 else begin), depth + 1
        elif depth == 0:
            begin = at
        if depth == 0 and not word.startswith("<!"):
            yield text[begin:end]
        at = max(end, at + 1)


PASST = b"""<interface type='user' xmlns:virlet='https://virlet.dev/schemas/domain/1'>
<backend type='passt' logFile='/l'/>
<source dev='lo'/><ip family='ipv4' address='10.0.2.15' prefix='24'/><mtu size='1500'/>
<portForward proto='tcp' address='127.0.0.1' dev='lo'><range start='2000' end='2010' to='22'/>
<range start='2004' exclude='yes'/></portForward><portForward proto='udp'/>
<virlet:passt mac='02:00:00:00:00:01' outbound-if4='lo' icmp='no' dhcp='yes' pcap-file='/p'>
<virlet:outbound address='1.2.3.4'/><virlet:dns address='1.1.1.1'/><virlet:search domain='a.b'/>
<virlet:map-host-loopback address='none'/><virlet:map-guest-addr address='10.0.2.9'/><virlet:param value='--stats'/>
</virlet:passt></interface>"""
EXTRA_DEVICES = (
    PASST,
    *(
        b"<interface type='user'><backend type='passt'/>%s</interface>" % rules
        for rules in (
            b"<portForward proto='udp' address='::1'><range start='1' end='9'/><range start='3' end='4' exclude='yes'/>"
            b"<range start='7' end='20' exclude='yes'/><range start='30' exclude='yes'/></portForward>",
            b"<portForward proto='tcp'><range start='5'/></portForward><portForward proto='tcp'><range start='5'/>"
            b"</portForward>",
            b"<portForward proto='tcp' address='0.0.0.0'><range start='5' end='3'/></portForward>",
            b"<portForward proto='tcp' address='0.0.0.0'><range start='9'/></portForward>"
            b"<portForward proto='tcp' address='127.0.0.1'><range start='9'/></portForward>"
            b"<portForward proto='tcp' address='::'><range start='9'/></portForward>",
            b"<portForward proto='tcp' address='::1%lo'><range to='3'/></portForward>",
        )
    ),
    b"<interface type='user' xmlns:v='https://virlet.dev/schemas/domain/1'><v:passt path='passt'/></interface>",
    b"<interface type='user'><mac address='01:00:00:00:00:01'/></interface>",
    b"<interface type='user'><virtualport/><x y='z'><a/></x></interface>",
    b"<disk type='file'><source file='a'/><target dev='vda'/><address type='drive'/><wwn>5</wwn></disk>",
    b"<disk><address/></disk>",
    b"<controller type='pci' index='99999999999999999999'><address type='pci' bus='0x1ff'/></controller>",
    b"<rng model='virtio'><rate bytes='x' period='0'/><backend model='random'>/dev/random</backend></rng>",
)
ODD_XML = (
    b"<a/>",
    b"<?xml version='1.0' encoding='latin-1'?><a>\xe9</a>",
    b"<?xml version='1.0' encoding='rot13'?><a/>",
    b"\n\n<a xmlns='x' xmlns:b='y'><b:c b:d='1'/>text<c/>tail</a>",
    b"<a xmlns:b=''><b:c/></a>",
    b"<a:b/>",
    b"<a x:y='1'/>",
    b"<!DOCTYPE a><a/>",
    b"<a>" * 130,
    b"<a>" + b"<b/>" * 70 + b"</a>",
    b"<a>" + b"<b c='d' e='f'/>" * 45 + b"</a>",
    b"<a xmlns:a='1' xmlns:b='2' xmlns:c='3' xmlns:d='4' xmlns:e='5' xmlns:f='6'/>",
    b"<a>" + b"x" * 8100 + b"</a>",
    b"<a>" + b"\xc3\xa9" * 4500 + b"</a>",
    b"<a>\n\xff</a>",
    b"<a>\n\n\n</b>",
    b"",
)
_BARE = b"<domain type='qemu'%s><name>a</name><memory%s>%s</memory><os><type>hvm</type></os>%s</domain>"
ODD_DOMAINS = (
    *(_BARE % (b"", b" unit='" + unit + b"'", b"65536", b"") for unit in (b"b", b"KB", b"MiB", b"k", b"", b"x", b"Kx")),
    _BARE % (b"", b"", b"99999999999999999999999", b""),
    _BARE % (b"", b"", b"x", b"<vcpu>x</vcpu><uuid>x</uuid>"),
    _BARE % (b" xml:lang='a' xmlns:b='c' b:d='e' f='g'", b"", b" 1 ", b"text<currentMemory> </currentMemory>"),
    _BARE % (b"", b"", b"<x/>1<y/>", b"<unknown/><unknown/>" * 30),
    _BARE % (b"", b"", b"1", b"<vcpu current='x'>1</vcpu>" + b"<devices>" + b"<disk type='x'/>" * 30 + b"</devices>"),
    _BARE % (b" id='3'", b"", b"1", b"<on_crash>no</on_crash><clock offset='x'/><features><acpi/><acpi/></features>"),
    _BARE % (b"", b"", b"1", b"<vcpu>" + b"9" * 100 + b"</vcpu><metadata><a/></metadata>"),
    _BARE % (b"", b"", b"1", b"<devices><disk><address type='x'/></disk><disk><address/></disk></devices>"),
    _BARE % (b"", b"", b"1", b"<devices><interface type='user'><ip address='a%b'/></interface></devices>"),
    _BARE
    % (b"", b"", b"1", b"<devices><interface type='user'><ip address='1.2.3.4' prefix='0x8'/></interface></devices>"),
    b"<other/>",
)

XML_WORDS = tuple(
    b"""<domain type='qemu'>|</domain>|<name>|</name>|<memory unit='KiB'>|<devices>|</devices>|<interface type='user'>
|</interface>|<disk type='file'>|</disk>|<source file='/x'/>|<target dev='vda' bus='virtio'/>|<os><type>hvm</type></os>
|<portForward proto='tcp'>|<range start='1' end='2' to='3'/>|<ip address='1.2.3.4'/>|<mac address='52:54:00:1:2:3'/>
|<![CDATA[
|]]>|<!--|-->|&lt;|&#0;|&#x10FFFF;|&x;|<!DOCTYPE a [<!ENTITY x 'y'>]>|<?xml version='1.0' encoding='utf-16'?>|<?pi x?>
|xmlns='http://libvirt.org/schemas/domain/qemu/1.0'|xmlns:q='a'|<a|>|/>|='|'|"| |\xc3\xa9|\xff|\0|\xef\xbb\xbf|\xff\xfe
|<metadata><a xmlns='b'/></metadata>|99999999999999999999|-1|yes|on|0x1|<alias name='ua-x'/>
|<address type='pci' bus='0' slot='3'/>|<cpu mode='host-model'/>|<graphics type='vnc'/>|<serial type='pty'/>
|<vcpu current='1'>|</vcpu>|<hostdev mode='subsystem'/>|<link state='down'/>|<model type='virtio'/>|
<virlet:passt xmlns:virlet='https://virlet.dev/schemas/domain/1'|<virlet:dns address='none'/>
|<virlet:param value='x'/>""".replace(b"\n", b"").split(b"|")
)


# RPC


def packet(program: int, number: int, kind: int, serial: int, status: int, payload: bytes = b"") -> bytes:
    return struct.pack(">7I", 28 + len(payload), program, 1, number, kind, serial, status) + payload


def client_says() -> list[bytes]:
    link = ClientLink()
    uri = link.call(remote.CONNECT_OPEN, ("qemu:///session", 0)).data
    listing = link.call(remote.CONNECT_LIST_ALL_DOMAINS, (1, 0)).data
    made = link.call(remote.DOMAIN_CREATE_XML, ("<domain/>", 0)).data
    ping = packet(0x6B656570, 1, 2, 0, 0)
    stream = packet(remote.PROGRAM.id, 201, 3, 2, 2, b"data")
    hole = packet(remote.PROGRAM.id, 201, 6, 2, 2, struct.pack(">qI", 5, 0))
    with_fds = struct.pack(">8I", 32, remote.PROGRAM.id, 1, 2, 4, 5, 0, 3) + bytes(3)
    return [uri, listing, made, ping, stream, hole, with_fds, uri + ping + listing, made + stream]


def streams() -> list[bytes]:
    """What a client may say on streams that are open."""
    program = remote.PROGRAM.id
    console = remote.PROGRAM.get("DOMAIN_OPEN_CONSOLE").number
    opened = packet(program, console, 0, 9, 0, struct.pack(">I", 1) + b"a\0\0\0" + bytes(16) + bytes(12))
    hole = struct.pack(">qI", 5, 0)
    return [
        opened + packet(program, console, 3, 9, 2, b"data") + packet(program, console, 3, 9, 0),
        opened + packet(program, console, 6, 9, 2, hole) + packet(program, console, 3, 9, 1),
        opened + packet(program, console, 6, 9, 2, hole[:4]),
        opened + packet(program, console, 3, 9, 1, encode_error(RpcError("no"))),
        packet(program, 99999, 0, 1, 0) + packet(1, 1, 0, 1, 0) + packet(program, 1, 0, 1, 2),
        struct.pack(">8I", 32, program, 1, 1, 4, 5, 0, 33),
        struct.pack(">7I", 28, program, 1, 1, 4, 5, 0),
    ]


def server_says() -> list[bytes]:
    number = {name: remote.PROGRAM.get(name).number for name in remote.PROGRAM.rows}
    program = remote.PROGRAM.id
    console = number["DOMAIN_OPEN_CONSOLE"]
    error = encode_error(RpcError("no"))
    domains = struct.pack(">2I", 1, 1) + b"a\0\0\0"
    opened = packet(program, console, 1, 2, 0)
    return [
        packet(program, number["CONNECT_GET_VERSION"], 1, 0, 0, struct.pack(">Q", 7002022)),
        packet(program, number["CONNECT_GET_VERSION"], 1, 0, 1, error),
        packet(program, number["CONNECT_LIST_ALL_DOMAINS"], 1, 1, 0, struct.pack(">I", 1) + domains[4:] + bytes(24)),
        opened + packet(program, console, 3, 2, 2, b"data") + packet(program, console, 3, 2, 0),
        opened + packet(program, console, 6, 2, 2, struct.pack(">qI", 5, 0)) + packet(program, console, 3, 2, 1, error),
        opened + packet(program, console, 3, 2, 1) + packet(program, console, 6, 2, 2, b""),
        packet(program, console, 1, 3, 0),
        packet(program, number["DOMAIN_EVENT_LIFECYCLE"], 2, 1, 0, bytes(40)),
        packet(program, number["DOMAIN_EVENT_CALLBACK_LIFECYCLE"], 2, 1, 0, bytes(40)),
        packet(0x6B656570, 1, 2, 0, 0),
        struct.pack(">8I", 32, program, 1, number["CONNECT_GET_VERSION"], 5, 0, 0, 1) + bytes(9),
    ]


WIRE_WORDS = (
    *(struct.pack(">I", number) for number in (0, 1, 2, 3, 4, 5, 6, 28, 32, 36, 64, 201, 1 << 22, 1 << 25, 0xFFFFFFFF)),
    *(struct.pack(">I", program.id) for program in PROGRAMS),
    struct.pack(">I", 0x6B656570),
    *(packet(remote.PROGRAM.id, number, 0, 1, 0, bytes(8)) for number in (1, 2, 3, 10, 66, 273, 500)),
    b"\0\0\0\x05hello\0\0\0",
)


# What QEMU says


SCHEMA: list[object] = [
    {"name": "netdev_add", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
    {"name": "1", "meta-type": "object", "members": [{"name": "type", "type": "2"}], "tag": "type",
     "variants": [{"case": "user", "type": "3"}]},
    {"name": "2", "meta-type": "enum", "values": ["user"], "members": [{"name": "user"}]},
    {"name": "3", "meta-type": "object", "members": [{"name": "net", "type": "str"}]},
    {"name": "chardev-add", "meta-type": "command", "arg-type": "4"},
    {"name": "4", "meta-type": "object", "members": [{"name": "backend", "type": "1"}]},
    {"name": "SHUTDOWN", "meta-type": "event", "arg-type": "0"},
]  # fmt: skip


def qemu_says() -> list[bytes]:
    answers: list[object] = [
        SCHEMA,
        [{"label": "charserial0", "filename": "pty:/dev/pts/3", "frontend-open": True}],
        [{"server": [{"service": "5900", "host": "127.0.0.1"}], "id": "default"}],
        [{"name": "pc-q35-7.2", "cpu-max": 255, "alias": "q35", "is-default": True, "acpi": True, "deprecated": False}],
        [{"name": "qemu64", "unavailable-features": ["svm"], "migration-safe": True}, {"name": "max"}],
        [{"option": "sandbox", "parameters": [{"name": "spawn"}]}],
        {"version": {"qemu": {"major": 7}}},
    ]
    stamp = {"seconds": 1, "microseconds": 2}
    events: list[object] = [
        {"event": "STOP", "timestamp": stamp},
        {"event": 5},
        {"event": "STOP", "data": 5},
        {"event": "STOP", "timestamp": {"seconds": -1, "microseconds": -1}},
        {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 10**400}},
        {"event": "STOP", "timestamp": {"seconds": "1"}},
        {"event": "NETDEV_STREAM_DISCONNECTED", "data": {"netdev-id": "hostnet0"}, "timestamp": stamp},
        {"error": {"class": "GenericError", "desc": "no"}, "id": "1"},
    ]
    return [json.dumps(each).encode() for each in (*({"return": answer} for answer in answers), *events)]


JSON_WORDS = tuple(
    b"""{"return": |{"event": |"data": {|[{"name": |"members": |"values": |"meta-type": "command"|"type":
|null|true|false
|{|}|[|]|,|:|"|""|0|-1|1e999|NaN|"a"|[]|{}|"timestamp": |"seconds": |"microseconds": |"label": |"filename":
|"pty:/dev/pts/1"|"server": |"service": |99999999999999999999|\\ud800|\xff|\xc3\xa9|"arg-type": |"tag": |"variants":
|"$": |"1"|"netdev_add"|"case": """.replace(b"\n", b"").split(b"|")
)


# Files and words


def image_headers() -> list[bytes]:
    head = struct.pack(">4sIQI", b"QFI\xfb", 3, 136, 4).ljust(72, b"\0") + struct.pack(">QQQII", 4, 0, 0, 4, 104)
    named = head + struct.pack(">II5s3x", 0xE2792ACA, 5, b"qcow2") + struct.pack(">II", 0, 0) + bytes(8) + b"base"
    data = head + struct.pack(">II4s4x", 0x44415441, 4, b"data") + bytes(8)
    old = struct.pack(">4sIQI", b"QFI\xfb", 2, 80, 4).ljust(80, b"\0") + b"base"
    older = struct.pack(">4sIQI", b"QFI\xfb", 1, 20, 4) + b"base"
    qed = struct.pack("<4sIIIQ", b"QED\0", 65536, 4, 1, 5).ljust(56, b"\0") + struct.pack("<II", 64, 4) + b"base"
    url = b'json:{"driver":"qcow2","file":{"driver":"file","filename":"/b"}}'
    long = struct.pack(">4sIQI", b"QFI\xfb", 1, 20, len(url)) + url
    return [named, data, old, older, qed, long]


def netlink_says() -> list[bytes]:
    """A link, routes of both kinds, an error, a lost message, one that is cut off."""

    def message(kind: int, body: bytes) -> bytes:
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body + bytes(-len(body) % 4)

    attributes = struct.pack("=HH8s", 12, 3, b"eth0") + struct.pack("=HHI", 8, 4, 1500)
    link = message(16, struct.pack("=BxHiII", 0, 1, 2, 1, 0) + attributes)
    default, other = (message(24, struct.pack("=BBBBBBBBI", 2, size, 0, 0, 254, 3, 0, 1, 0)) for size in (0, 24))
    return [
        link,
        default,
        other,
        message(25, b""),
        message(2, bytes(4)),
        message(4, b""),
        link + default[:20],
        attributes,
    ]


SLIRP_LINES = (
    "--fd|3|--net|10.0.2.0/24|--host|10.0.2.2",
    "--fd=3|--hostfwd|tcp::2022-:22",
    "--fd=3|--guestfwd|tcp:10.0.2.100:80-cmd:cat",
    "--fd=3|--net6|fec0::/64|--mtu|1500",
    "--fd=3|--guest-mac|52:54:00:01:02:03|--hostfwd|udp:[::1]:53-[fec0::1]:53",
    "--print-capabilities",
    "--fd=3|--net=10.0.2.0|--mask=255.255.255.0|--disable-ipv6",
    "--fd=3|--guestfwd|tcp:10.0.2.100:80-tcp:[::1]:80",
    "--fd=3|--guestfwd|tcp:10.0.2.100:80-unix:/x|--prefix-ipv6=fd00::|--prefix-length-ipv6=64",
    "--net=10.0.2.0",
    "--fd=3|--mtu=67",
    "--fd=3|--disable-ipv4|--disable-ipv6",
    "--fd=3|--mask=255.0.0.0",
    "--fd=3|--net=10.0.2.0/33",
    "--fd=3|--net6=fec0::/63",
    "--fd=3|--net6=x",
    "--fd=3|--net6=fec0::/²",
    "--fd=3|--host=10.0.3.1",
    "--fd=3|--host=x",
    "--fd=3|--guest-mac=52:54",
    "--fd=3|--guest-mac=x",
    "--fd=3|--hostfwd=x",
    "--fd=3|--hostfwd=tcp:127.0.0.1:0-:22",
    "--fd=3|--hostfwd=tcp:a.b:22-:22",
    "--fd=3|--hostfwd=tcp:127.0.0.1:22-[::1]:22",
    "--fd=3|--guestfwd=x",
    "--fd=3|--guestfwd=tcp:x:1-cmd:cat",
    "--fd=3|--guestfwd=tcp:10.0.2.100:80-tcp:x",
    "--fd=3|--guestfwd=tcp:10.0.2.100:80-tcp:h:99999",
    "--fd=3|--guestfwd=tcp:10.0.2.100:80-unix:x",
    "--fd=x",
)


def texts(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


def words_of(text: str) -> tuple[bytes, ...]:
    return tuple(text.encode().split(b"|"))


def facts_files() -> list[bytes]:
    """Whole facts of a QEMU, small and larger, some of what two real ones have said, and one that lacks a member."""
    small = QemuFacts("/usr/bin/qemu-system-x86_64", "x86_64", (7, 2, 0), netdevs={"user": frozenset({"net"})})
    board = MachineType("pc-q35-11.1", 4096, alias="q35", acpi=True)
    model = CpuModel("Skylake-Client", usable=False, missing=frozenset({"pcid", "invpcid"}))
    larger = replace(small, version=(11, 1, 3), machines={board.name: board}, cpus={model.name: model})
    plain = [json.loads(json.dumps(to_plain(each))) for each in (small, larger)]
    lacking = {key: value for key, value in plain[0].items() if key != "cpus"}
    return [json.dumps(each).encode() for each in (*plain, *_real_facts(plain[0]), lacking)]


def _real_facts(whole: dict[str, object]) -> Iterator[dict[str, object]]:
    """The last few of each kind of thing that a recorded QEMU has."""
    for path in sorted(TESTS.glob("plan/facts/*.json")):
        found = dict(whole)
        for name, value in json.loads(path.read_text()).items():
            if name in ("machines", "cpus"):
                found[name] = {each["name"]: each for each in value[-3:]}
            elif isinstance(value, dict):
                found[name] = dict(list(value.items())[-3:])
            else:
                found[name] = value[-3:] if isinstance(value, list) else value
        yield found


def status_files() -> list[bytes]:
    """Whole ones, and those that lack a member or have one of another kind."""
    whole = [print_record(record) for record in RECORDS]
    first = json.loads(whole[0])
    strange: list[object] = [7, "x", True, None, [], {}, 1.5, [[[]]], {"$": "Dial", "path": "a\0"}, {"$": "No"}]
    damaged: list[object] = [{**first, "format": 2}, {"$": "Record"}, [], {**first, "more": 1}]
    for number, name in enumerate(first):
        damaged.append({key: value for key, value in first.items() if key != name})
        damaged.append({**first, name: strange[number % len(strange)]})
    for each in strange:
        helper = first["helpers"][0]
        plan = {**helper["plan"], "argv": [each, {"$": "Json", "value": {"a": each, "b": [each]}}]}
        damaged.append({**first, "helpers": [{**helper, "plan": plan}]})
        damaged.append({**first, "helpers": [each], "qemu": each, "state": each})
    deep: object = 1
    for _ in range(60):
        deep = [deep]
    plan = {**first["helpers"][0]["plan"], "argv": [{"$": "Json", "value": {"a": deep}}]}
    damaged.append({**first, "helpers": [{**first["helpers"][0], "plan": plan}]})
    return [*whole, *(json.dumps(each).encode() for each in damaged), b"[" * 5000]
