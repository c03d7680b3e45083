"""What calls answer, flags and rights included."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from virlet.daemon.dispatch import Access, access_of
from virlet.daemon.handlers import all_handlers
from virlet.daemon.procs_host import cpu_times, memory_figures
from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import InvalidArg, NoDomain, NoDomainMetadata, NoSupport, OperationDenied, OperationInvalid, RpcError
from virlet.wire import remote, virlet

XML = "<domain><name>{name}</name></domain>"


@pytest.fixture
async def dom(client):
    return (await client.ask(remote.DOMAIN_DEFINE_XML, XML.format(name="a")))[0]


@pytest.fixture
async def reader(connect, kit):
    """A read-only connection."""
    one = connect()
    await one.ask(remote.CONNECT_OPEN, kit.URI, 1)
    return one


async def test_from_definition_to_end(client):
    (dom,) = await client.ask(remote.DOMAIN_DEFINE_XML_FLAGS, XML.format(name="a"), 1)
    assert dom.id == -1
    await client.ask(remote.DOMAIN_CREATE, dom)
    (dom,) = await client.ask(remote.DOMAIN_LOOKUP_BY_UUID, dom.uuid)
    assert dom.id == 1
    assert await client.ask(remote.DOMAIN_LOOKUP_BY_ID, 1) == (dom,)
    assert await client.ask(remote.DOMAIN_GET_STATE, dom, 0) == (1, 1)
    await client.ask(remote.DOMAIN_SUSPEND, dom)
    assert await client.ask(remote.DOMAIN_GET_INFO, dom) == (3, 131_072, 131_072, 1, 0)
    await client.ask(remote.DOMAIN_RESUME, dom)
    await client.ask(remote.DOMAIN_REBOOT, dom, 0)
    await client.ask(remote.DOMAIN_SHUTDOWN, dom)
    assert await client.ask(remote.DOMAIN_IS_ACTIVE, dom) == (0,)
    await client.ask(remote.DOMAIN_UNDEFINE_FLAGS, dom, 0)
    with pytest.raises(NoDomain):
        await client.ask(remote.DOMAIN_IS_ACTIVE, dom)


async def test_a_transient_domain_is_gone_when_it_stops(client):
    (dom,) = await client.ask(remote.DOMAIN_CREATE_XML, XML.format(name="a"), 0)
    assert await client.ask(remote.DOMAIN_IS_PERSISTENT, dom) == (0,)
    await client.ask(remote.DOMAIN_DESTROY, dom)
    with pytest.raises(NoDomain) as caught:
        await client.ask(remote.DOMAIN_GET_STATE, dom, 0)
    assert caught.value.code == ErrorCode.NO_DOMAIN


async def test_lists_count_and_list_and_keep_to_the_clients_buffer(client):
    doms = [(await client.ask(remote.DOMAIN_DEFINE_XML, XML.format(name=f"d{n}")))[0] for n in range(4)]
    await client.ask(remote.DOMAIN_CREATE, doms[0])
    assert await client.ask(remote.CONNECT_LIST_ALL_DOMAINS, 0, 0) == ((), 4)
    listed, count = await client.ask(remote.CONNECT_LIST_ALL_DOMAINS, 1, 2)
    assert ([one.name for one in listed], count) == (["d1", "d2", "d3"], 3)
    assert await client.ask(remote.CONNECT_NUM_OF_DOMAINS) == (1,)
    assert await client.ask(remote.CONNECT_NUM_OF_DEFINED_DOMAINS) == (3,)
    assert await client.ask(remote.CONNECT_LIST_DOMAINS, 10) == ((1,),)
    assert await client.ask(remote.CONNECT_LIST_DEFINED_DOMAINS, 2) == (("d1", "d2"),)
    with pytest.raises(RpcError, match="maxids > REMOTE_DOMAIN_LIST_MAX"):
        await client.ask(remote.CONNECT_LIST_DOMAINS, 16_385)
    with pytest.raises(RpcError, match="maxnames must be non-negative"):
        await client.ask(remote.CONNECT_LIST_DEFINED_DOMAINS, -1)


@pytest.mark.parametrize(
    ("procedure", "function"),
    [
        (remote.DOMAIN_GET_STATE, "qemuDomainGetState"),
        (remote.DOMAIN_GET_XML_DESC, "qemuDomainGetXMLDesc"),
        (remote.DOMAIN_CREATE_WITH_FLAGS, "qemuDomainCreateWithFlags"),
        (remote.DOMAIN_DESTROY_FLAGS, "qemuDomainDestroyFlags"),
        (remote.DOMAIN_UNDEFINE_FLAGS, "qemuDomainUndefineFlags"),
        (remote.DOMAIN_SHUTDOWN_FLAGS, "qemuDomainShutdownFlags"),
        (remote.DOMAIN_RESET, "qemuDomainReset"),
        (remote.DOMAIN_LIST_ALL_SNAPSHOTS, "qemuDomainListAllSnapshots"),
    ],
)
async def test_unknown_flags_are_refused_in_libvirts_words(client, dom, procedure, function):
    args = (dom, 0, 0x100000) if procedure is remote.DOMAIN_LIST_ALL_SNAPSHOTS else (dom, 0x100000)
    with pytest.raises(InvalidArg) as caught:
        await client.ask(procedure, *args)
    assert caught.value.message == f"unsupported flags (0x100000) in function {function}"
    assert (caught.value.code, caught.value.domain) == (ErrorCode.INVALID_ARG, ErrorDomain.QEMU)


async def test_a_read_only_client_reads(reader, client, dom):
    assert await reader.ask(remote.DOMAIN_GET_XML_DESC, dom, 2) == (XML.format(name="a"),)
    assert (await reader.ask(remote.CONNECT_LIST_ALL_DOMAINS, 1, 0))[1] == 1


@pytest.mark.parametrize(
    ("procedure", "args", "api"),
    [
        (remote.DOMAIN_DEFINE_XML, ("x",), "virDomainDefineXML"),
        (remote.DOMAIN_CREATE, (("a", bytes(16), -1),), "virDomainCreate"),
        (remote.DOMAIN_DESTROY, (("a", bytes(16), -1),), "virDomainDestroy"),
        (remote.DOMAIN_SET_AUTOSTART, (("a", bytes(16), -1), 1), "virDomainSetAutostart"),
        (remote.DOMAIN_OPEN_CONSOLE, (("a", bytes(16), -1), None, 0), "virDomainOpenConsole"),
        (remote.DOMAIN_DETACH_DEVICE_ALIAS, (("a", bytes(16), -1), "net0", 0), "virDomainDetachDeviceAlias"),
    ],
)
async def test_a_read_only_client_changes_nothing(reader, procedure, args, api):
    with pytest.raises(OperationDenied) as caught:
        await reader.ask(procedure, *args)
    assert caught.value.message == f"operation forbidden: read only access prevents {api}"
    assert caught.value.domain == ErrorDomain.DOMAIN


async def test_secrets_are_not_for_read_only_clients(reader, dom):
    with pytest.raises(OperationDenied, match="virDomainGetXMLDesc with secure flag"):
        await reader.ask(remote.DOMAIN_GET_XML_DESC, dom, 1)


async def test_what_the_driver_lacks_is_not_supported(client, dom):
    for procedure, args in (
        (remote.DOMAIN_ATTACH_DEVICE, (dom, "<disk/>")),
        (remote.DOMAIN_MEMORY_STATS, (dom, 1, 0)),
        (remote.DOMAIN_MANAGED_SAVE, (dom, 0)),
    ):
        with pytest.raises(NoSupport) as caught:
            await client.ask(procedure, *args)
        assert caught.value.message == (f"this function is not supported by the connection driver: {procedure.api}")
        assert caught.value.domain == ErrorDomain.NONE


async def test_who_we_are(client):
    assert await client.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)
    assert await client.ask(remote.CONNECT_GET_VERSION) == (7_002_000,)
    assert await client.ask(remote.CONNECT_GET_LIB_VERSION) == (9_000_000,)
    assert await client.ask(remote.CONNECT_GET_HOSTNAME) == ("here",)
    assert await client.ask(remote.CONNECT_GET_URI) == ("qemu:///session",)
    assert await client.ask(remote.CONNECT_IS_SECURE) == (1,)
    assert await client.ask(remote.CONNECT_REGISTER_CLOSE_CALLBACK) is None
    assert await client.ask(remote.CONNECT_REGISTER_CLOSE_CALLBACK) is None
    assert await client.ask(remote.CONNECT_UNREGISTER_CLOSE_CALLBACK) is None
    assert (await client.ask(remote.CONNECT_GET_CAPABILITIES))[0].startswith("<capabilities>")
    assert (
        "<machine>q35</machine>"
        in (await client.ask(remote.CONNECT_GET_DOMAIN_CAPABILITIES, None, None, "q35", None, 0))[0]
    )


@pytest.mark.parametrize(
    ("feature", "answer"),
    [(0, 0), (3, 0), (6, 0), (8, 1), (9, 1), (10, 1), (14, 1), (15, 1), (16, 1), (17, 0), (-1, 0)],
)
async def test_features(client, feature, answer):
    assert await client.ask(remote.CONNECT_SUPPORTS_FEATURE, feature) == (answer,)


async def test_what_dominfo_asks(client, dom):
    assert await client.ask(remote.DOMAIN_GET_OS_TYPE, dom) == ("hvm",)
    assert await client.ask(remote.DOMAIN_GET_AUTOSTART, dom) == (0,)
    await client.ask(remote.DOMAIN_SET_AUTOSTART, dom, 1)
    assert await client.ask(remote.DOMAIN_GET_AUTOSTART, dom) == (1,)
    assert await client.ask(remote.DOMAIN_GET_AUTOSTART_ONCE, dom) == (0,)
    assert await client.ask(remote.DOMAIN_IS_UPDATED, dom) == (0,)
    assert await client.ask(remote.DOMAIN_GET_MAX_MEMORY, dom) == (131_072,)
    assert await client.ask(remote.DOMAIN_HAS_MANAGED_SAVE_IMAGE, dom, 0) == (0,)
    assert await client.ask(remote.NODE_GET_SECURITY_MODEL) == (b"none\0", b"0\0")
    assert await client.ask(remote.DOMAIN_GET_SECURITY_LABEL, dom) == (b"\0", 0)
    assert await client.ask(remote.DOMAIN_GET_SECURITY_LABEL_LIST, dom) == ((), 0)
    assert await client.ask(remote.DOMAIN_GET_MESSAGES, dom, 0) == (("tainted: custom-argv",),)


async def test_jobs_of_an_idle_guest_are_zeros_and_of_a_stopped_one_an_error(client, dom):
    for procedure, args in ((remote.DOMAIN_GET_JOB_INFO, ()), (remote.DOMAIN_GET_CONTROL_INFO, (0,))):
        with pytest.raises(OperationInvalid, match="domain is not running"):
            await client.ask(procedure, dom, *args)
    await client.ask(remote.DOMAIN_CREATE, dom)
    assert set(await client.ask(remote.DOMAIN_GET_JOB_INFO, dom)) == {0}
    assert await client.ask(remote.DOMAIN_GET_CONTROL_INFO, dom, 0) == (0, 0, 0)
    assert await client.ask(remote.DOMAIN_GET_JOB_STATS, dom, 0) == (0, ())


async def test_snapshots_and_checkpoints_are_none(client, dom):
    assert await client.ask(remote.DOMAIN_SNAPSHOT_NUM, dom, 0) == (0,)
    assert await client.ask(remote.DOMAIN_SNAPSHOT_LIST_NAMES, dom, 5, 0) == ((),)
    assert await client.ask(remote.DOMAIN_HAS_CURRENT_SNAPSHOT, dom, 0) == (0,)
    assert await client.ask(remote.DOMAIN_LIST_ALL_SNAPSHOTS, dom, 1, 0) == ((), 0)
    assert await client.ask(remote.DOMAIN_LIST_ALL_CHECKPOINTS, dom, 1, 0) == ((), 0)
    with pytest.raises(NoDomain):
        await client.ask(remote.DOMAIN_SNAPSHOT_NUM, ("x", uuid4().bytes, -1), 0)


@pytest.mark.parametrize(
    "name",
    ["NETWORKS", "STORAGE_POOLS", "INTERFACES", "NODE_DEVICES", "NWFILTERS", "NWFILTER_BINDINGS", "SECRETS"],
)
async def test_things_that_we_do_not_have_are_empty_lists(client, name):
    procedure = getattr(remote, f"CONNECT_LIST_ALL_{name}")
    assert await client.ask(procedure, 1, 0) == ((), 0)
    with pytest.raises(InvalidArg, match="unsupported flags"):
        await client.ask(procedure, 1, 0x2000_0000)


@pytest.mark.parametrize("name", ["NETWORKS", "DEFINED_NETWORKS", "STORAGE_POOLS", "INTERFACES", "SECRETS"])
async def test_things_that_we_do_not_have_the_old_way(client, name):
    assert await client.ask(getattr(remote, f"CONNECT_NUM_OF_{name}")) == (0,)
    assert await client.ask(getattr(remote, f"CONNECT_LIST_{name}"), 5) == ((),)


async def test_title_description_and_elements(client, driver):
    xml = (
        "<domain><name>a</name><title>The title</title><metadata>"
        "<m:x xmlns:m='http://m'><m:y>1</m:y></m:x> <other xmlns='http://o'/></metadata></domain>"
    )
    (dom,) = await client.ask(remote.DOMAIN_DEFINE_XML, xml)
    assert await client.ask(remote.DOMAIN_GET_METADATA, dom, 1, None, 0) == ("The title",)
    (element,) = await client.ask(remote.DOMAIN_GET_METADATA, dom, 2, "http://m", 2)
    assert element == "<x><y>1</y></x>"
    for kind, uri in ((0, None), (2, "http://none")):
        with pytest.raises(NoDomainMetadata, match="metadata not found: Requested metadata element is not present"):
            await client.ask(remote.DOMAIN_GET_METADATA, dom, kind, uri, 0)
    for kind, uri in ((2, None), (7, None)):
        with pytest.raises(InvalidArg):
            await client.ask(remote.DOMAIN_GET_METADATA, dom, kind, uri, 0)
    with pytest.raises(OperationInvalid, match="domain is not running"):
        await client.ask(remote.DOMAIN_GET_METADATA, dom, 1, None, 1)
    await client.ask(remote.DOMAIN_CREATE, dom)
    assert await client.ask(remote.DOMAIN_GET_METADATA, dom, 1, None, 1) == ("The title",)
    driver.guests[next(iter(driver.guests))].persistent = False
    with pytest.raises(OperationInvalid, match="transient domains do not have any persistent config"):
        await client.ask(remote.DOMAIN_GET_METADATA, dom, 1, None, 2)


async def test_the_host_in_two_passes(client):
    assert await client.ask(remote.NODE_GET_INFO) == (b"x86_64", 2_097_152, 2, 2000, 1, 1, 2, 1)
    assert await client.ask(remote.NODE_GET_MEMORY_STATS, 0, -1, 0) == ((), 4)
    stats, more = await client.ask(remote.NODE_GET_MEMORY_STATS, 4, -1, 0)
    assert ([one.field for one in stats], more) == (["total", "free", "buffers", "cached"], 0)
    assert await client.ask(remote.NODE_GET_CPU_STATS, -1, 0, 0) == ((), 4)
    assert [one.field for one in (await client.ask(remote.NODE_GET_CPU_STATS, 0, 2, 0))[0]] == ["kernel", "user"]
    with pytest.raises(InvalidArg):
        await client.ask(remote.NODE_GET_CPU_STATS, 99_999, 4, 0)
    cpumap, online, count = await client.ask(remote.NODE_GET_CPU_MAP, 1, 1, 0)
    assert len(cpumap) == (count + 7) // 8
    assert sum(byte.bit_count() for byte in cpumap) == online
    assert (await client.ask(remote.NODE_GET_FREE_MEMORY))[0] > 0


def test_figures_of_proc():
    assert memory_figures("MemTotal: 8 kB\nMemFree:  4 kB\nBuffers: 1 kB\nCached: 2 kB\n")[1] == ("free", 4)
    stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 10 0 30 40 50 60 70 0 0 0\n"
    assert dict(cpu_times(stat, 0, 100)) == {
        "kernel": 1_600_000_000, "user": 100_000_000, "idle": 400_000_000, "iowait": 500_000_000,
    }  # fmt: skip
    assert not cpu_times(stat, 1, 100)


async def test_our_own_program(client, dom):
    from virlet import __version__

    version, details = await client.ask(virlet.VERSION)
    assert version == __version__
    assert json.loads(details)["virlet"] == version
    assert await client.ask(remote.CONNECT_DOMAIN_XML_TO_NATIVE, "qemu-argv", "<x/>", 0) == ("qemu # 4",)
    with pytest.raises(InvalidArg, match="unsupported config type nope"):
        await client.ask(remote.CONNECT_DOMAIN_XML_TO_NATIVE, "nope", "<x/>", 0)
    assert json.loads((await client.ask(virlet.EXPLAIN, None, "<x/>", 0))[0]) == {"uuid": "None", "xml": "<x/>"}
    with pytest.raises(InvalidArg):
        await client.ask(virlet.EXPLAIN, dom, "<x/>", 0)
    assert json.loads((await client.ask(virlet.DOCTOR, 0))[0]) == {"ok": True}
    assert json.loads((await client.ask(virlet.PORT_LIST, dom, 0))[0]) == [{"host": 2022, "guest": 22}]
    assert json.loads((await client.ask(virlet.DOMAIN_DETAILS, dom, 0))[0]) == {"name": "a"}
    assert await client.ask(virlet.LOGS, dom, "qemu", 5, 3, 0) == (b"one", 8, 0)
    assert await client.ask(virlet.LOGS, dom, "qemu", -4, 0, 0) == (b"two\n", 18, 1)


def test_every_handler_is_for_a_procedure_and_priority_ones_of_reading_never_wait():
    import inspect

    waiting = {
        "CONNECT_OPEN",
        "DOMAIN_DEFINE_XML",
        "DOMAIN_DEFINE_XML_FLAGS",
        "DOMAIN_DESTROY",
        "DOMAIN_DESTROY_FLAGS",
        "DOMAIN_UNDEFINE",
        "DOMAIN_UNDEFINE_FLAGS",
        "DOMAIN_SET_AUTOSTART",
    }
    handlers = all_handlers()
    assert len(handlers) > 90
    for procedure, handler in handlers.items():
        if procedure.priority and inspect.iscoroutinefunction(handler.run):
            assert procedure.name in waiting


@pytest.mark.parametrize(
    ("acl", "access"),
    [
        ("connect:getattr", Access.READ),
        ("domain:read, domain:read_secure:VIR_DOMAIN_XML_SECURE", Access.READ),
        ("connect:search_domains", Access.READ),
        ("domain:write", Access.WRITE),
        ("domain:read, domain:start", Access.WRITE),
        ("", Access.WRITE),
    ],
)
def test_rights_follow_from_permissions_and_the_unknown_is_a_change(acl, access):
    assert access_of(acl) is access


def test_what_reads_only_is_open_to_readers():
    writes = {procedure.name for procedure, handler in all_handlers().items() if handler.access is Access.WRITE}
    assert writes == {
        "CONNECT_DOMAIN_XML_TO_NATIVE", "DOMAIN_ATTACH_DEVICE", "DOMAIN_ATTACH_DEVICE_FLAGS", "DOMAIN_CREATE",
        "DOMAIN_CREATE_WITH_FLAGS", "DOMAIN_CREATE_XML", "DOMAIN_DEFINE_XML", "DOMAIN_DEFINE_XML_FLAGS",
        "DOMAIN_DESTROY", "DOMAIN_DESTROY_FLAGS", "DOMAIN_DETACH_DEVICE", "DOMAIN_DETACH_DEVICE_ALIAS",
        "DOMAIN_FD_ASSOCIATE",
        "DOMAIN_DETACH_DEVICE_FLAGS", "DOMAIN_OPEN_CHANNEL", "DOMAIN_OPEN_CONSOLE", "DOMAIN_REBOOT", "DOMAIN_RESET",
        "DOMAIN_RESUME", "DOMAIN_SET_AUTOSTART", "DOMAIN_SET_METADATA", "DOMAIN_SHUTDOWN", "DOMAIN_SHUTDOWN_FLAGS",
        "DOMAIN_SUSPEND", "DOMAIN_UNDEFINE", "DOMAIN_UNDEFINE_FLAGS", "DOMAIN_UPDATE_DEVICE_FLAGS",
    }  # fmt: skip
