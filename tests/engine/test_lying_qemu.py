"""A QEMU that a guest has taken over: it answers and tells whatever it likes, and only its own guest suffers.

Invariant: a call ends in a result or in an error of ours, no task of the daemon dies of it, and the guest can still be
destroyed without a trace.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from unclaimed import free_port

from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.engine.session import open_driver
from virlet.enums import Affect, ListDomainsFlags
from virlet.errors import VirletError
from virlet.fake.programs import install
from virlet.plan.facts import Facts, Support

Xml = Callable[..., str]

NIC = """<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><backend type='passt'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward></interface>
<graphics type='vnc' autoport='yes'/><channel type='unix'><target type='virtio' name='org.one'/></channel>"""
MORE = "<interface type='user'><mac address='52:54:00:00:00:02'/><model type='virtio'/></interface>"

words = st.sampled_from(
    ["", "net0", "hostnet0", "../x", "\0", "virtio-disk0", "channel0", "pause", "stop", "guest-reset", "guest-panic",
     "/machine/peripheral/net0", "pty:/dev/pts/../../etc/passwd", "pty:/dev/pts/3", "5900", "\ud800", "x" * 5000]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, -1, 1 << 70, 10**400, 1.5]) | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["return", "label", "filename", "server", "service", "device", "id", "netdev-id", "guest"])
            | words,
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
commands = st.sampled_from(
    ["cont", "stop", "query-chardev", "query-vnc-servers", "query-status", "getfd", "netdev_add", "device_add",
     "netdev_del", "device_del", "set_link", "announce-self", "system_powerdown", "quit", "chardev-add"]
)  # fmt: skip
events = st.sampled_from(
    ["SHUTDOWN", "RESET", "STOP", "RESUME", "SUSPEND", "SUSPEND_DISK", "WAKEUP", "GUEST_PANICKED", "RTC_CHANGE",
     "WATCHDOG", "BLOCK_IO_ERROR", "BALLOON_CHANGE", "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR",
     "DEVICE_TRAY_MOVED", "VSERPORT_CHANGE", "NETDEV_STREAM_CONNECTED", "NETDEV_STREAM_DISCONNECTED", "NO_SUCH"]
)  # fmt: skip
data = st.dictionaries(
    st.sampled_from(
        ["device", "id", "netdev-id", "guest", "reason", "action", "offset", "actual", "open", "qom-path", "path"]
    ),
    values,
    max_size=4,
)


@pytest.fixture(autouse=True)
def _hears_nothing_of_a_bug(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.ERROR)
    return caplog


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lies=st.dictionaries(commands, values, max_size=4), cries=st.lists(st.tuples(events, data | values), max_size=8))
@example({"query-chardev": [{"label": "charserial0", "filename": 5}]}, [("DEVICE_DELETED", {"device": "net0"})])
@example({}, [("GUEST_PANICKED", {"action": "pause"}), ("RESUME", None), ("SHUTDOWN", {"guest": True})])
@example({}, [("SHUTDOWN", {"guest": True, "reason": 7}), ("BALLOON_CHANGE", {"actual": 10**400})])
def test_lies_hurt_nobody_else(
    facts: Facts, xml: Xml, caplog: pytest.LogCaptureFixture, lies: dict[str, object], cries: list[object]
) -> None:
    with tempfile.TemporaryDirectory(prefix="vl") as name:
        asyncio.run(_live(Path(name), facts, xml, {"lie": lies, "cry": cries}))
    told = [record for record in caplog.records if record.exc_info]
    assert not told, told[0].getMessage()


async def _live(root: Path, facts: Facts, xml: Xml, behaviour: dict[str, object]) -> None:
    """A guest's whole life, with a look at everything that can be looked at."""
    emulator, passt = install(root / "qemu", "qemu", behaviour), install(root / "passt", "passt", {})
    real = facts.emulator("x86_64")
    if real is None or facts.passt is None:
        pytest.skip("needs the facts of a QEMU for x86_64 and of a passt")
    made = replace(
        facts,
        qemu={str(emulator): replace(real, path=str(emulator))},
        passt=replace(facts.passt, path=str(passt), may_run=Support(True)),
    )
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    driver = await open_driver("/session", Dirs(root / "c", root / "s", root / "h", root / "r"), made)
    try:
        await _used(driver, xml(devices=NIC.format(port=free_port())))
    finally:
        await driver.close()
    assert unhandled == []
    assert not list((root / "r").rglob("*.sock"))
    assert not list((root / "s").rglob("*.json"))


async def _used(driver: QemuDriver, text: str) -> None:
    uuid = (await driver.define(text, 0)).uuid
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: driver.start(uuid, 0, None),
        lambda: driver.attach(uuid, MORE, Affect.LIVE),
        lambda: driver.suspend(uuid),
        lambda: driver.resume(uuid),
        lambda: driver.detach_alias(uuid, "net0", Affect.LIVE),
    )
    for call in calls:
        try:
            async with asyncio.timeout(30):
                await call()
        except VirletError:
            pass
        assert driver.xml(uuid, 0).startswith("<domain")
        driver.info(uuid)
        driver.details(uuid)
        driver.domains(ListDomainsFlags(0))
    with suppress(VirletError):
        await driver.destroy(uuid, 0)
    assert not driver.is_active(uuid)
