"""Run by test_follow.py inside a network namespace that has no route: a driver with fake programs, and ip(8) as root.

A failed assertion is the exit status; the last line says how far it came.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from virlet.engine.api import HelperEvent
from virlet.engine.context import Dirs
from virlet.engine.facts import gather
from virlet.engine.probe.cache import Cache
from virlet.engine.session import open_driver
from virlet.fake.programs import install
from virlet.plan.facts import Facts, Support

XML = """<domain type='qemu'><name>one</name><uuid>7d6bcd80-9d5b-4c6f-9d1e-5d8c4f8c1a01</uuid>
  <memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><interface type='user'><mac address='52:54:00:00:00:01'/><backend type='passt'/></interface>
  <memballoon model='none'/></devices></domain>"""


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


async def until(true: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(what) from None


async def prepared(root: Path, cache: Path) -> Facts:
    """This host's facts with fake programs, the passt one of 2023."""
    facts = await gather(Cache(cache))
    real = facts.emulator("x86_64")
    assert real is not None
    assert facts.passt is not None
    qemu, passt = install(root / "qemu", "qemu", None), install(root / "passt", "passt", {"generation": 2023})
    old = replace(facts.passt, path=str(passt), may_run=Support(True), needs_route=True)
    return replace(facts, qemu={str(qemu): replace(real, path=str(qemu))}, passt=old)


def resolv_conf(root: Path) -> Path:
    """A file of ours in the place of the host's."""
    path = root / "resolv.conf"
    path.write_text("nameserver 10.9.0.53\n")
    subprocess.run(["mount", "--bind", str(path), os.path.realpath("/etc/resolv.conf")], check=True)
    return path


async def story(root: Path, cache: Path) -> None:
    resolver = resolv_conf(root)
    dirs = Dirs(root / "c", root / "s", root / "h", root / "r")
    facts = await prepared(root, cache)
    driver = await open_driver("/session", dirs, facts)
    events: list[HelperEvent] = []

    def hear(event: Any) -> None:
        if isinstance(event, HelperEvent):
            events.append(event)

    def state() -> tuple[str, int | None]:
        (helper,) = driver.details(uuid)["helpers"]  # type: ignore[attr-defined]
        return helper["condition"], helper["pid"]

    def said(kind: str) -> str:
        return next((event.message for event in events if event.kind == kind), "")

    driver.subscribe(hear)
    ip("link set lo up")
    ip("link add up0 type veth peer name far0")
    ip("link set far0 up")
    ip("link set up0 up")
    ip("address add 10.9.0.2/24 dev up0")
    ip("-6 address add fd09::2/64 dev up0 nodad")

    uuid = (await driver.define(XML, 0)).uuid
    (shown,) = (await driver.explain(uuid, None))["interfaces"]  # type: ignore[misc]
    assert shown["link"] == "down, until there is a default route", shown
    await driver.start(uuid, 0, None)
    await driver.destroy(uuid, 0)
    assert list(dirs.runtime.rglob("*")) == [], "one that waits leaves nothing"

    events.clear()
    await driver.start(uuid, 0, None)
    assert state() == ("waits for a default route", None)
    assert "waits for a default route" in said("waiting")

    ip("route add default via 10.9.0.1")
    await until(lambda: said("followed"), f"a route came, and {events}")
    first = state()
    assert first[0] == "running", first
    assert "default route now" in said("followed")

    events.clear()
    ip("-6 route add default via fd09::1 dev up0")
    await until(lambda: said("followed"), f"IPv6 came, and {events}")
    assert "IPv6" in said("followed")
    assert said("lost") == "", "that it was ended on purpose is no loss"
    assert state()[1] not in (None, first[1])

    events.clear()
    second = state()[1]
    assert second is not None
    resolver.write_text("nameserver 10.9.0.54\nnameserver 10.9.0.53\n")
    await until(lambda: said("followed"), f"another nameserver came, and {events}")
    assert "the host's nameserver is 10.9.0.54 now" in said("followed")
    assert said("lost") == ""
    assert state()[1] not in (None, second)
    events.clear()
    resolver.write_text("nameserver 10.9.0.54\n")

    second = state()[1]
    assert second is not None
    ip("route del default")
    ip("-6 route del default")
    os.kill(second, signal.SIGKILL)
    await until(lambda: said("waiting"), f"it died without a route, and {events}")
    assert state() == ("waits for a default route", None)

    await driver.close()
    ip("route add default via 10.9.0.1")
    driver = await open_driver("/session", dirs, facts)
    await until(lambda: state()[0] == "running", f"the next daemon: {state()}")
    await driver.destroy(uuid, 0)
    await driver.close()
    print("good")


if __name__ == "__main__":
    asyncio.run(story(Path(sys.argv[1]), Path(sys.argv[2])))
