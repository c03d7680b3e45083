"""What managers ask all the time, and what people write about their guests, through real virsh."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from domains import domain
from session import Session, session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

URI = "http://x.org/a"


@pytest.fixture(scope="module")
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        fresh.define(domain("demo", "<interface type='user'><model type='virtio'/></interface>"))
        fresh.virsh("start", "demo")
        yield fresh
        fresh.virsh("destroy", "demo")


def test_title_and_description_are_set_live_and_in_the_definition(one: Session) -> None:
    with one.events() as events:
        one.virsh("desc", "demo", "--live", "now", "this")
        one.virsh("desc", "demo", "--config", "later", "that")
        assert one.virsh("desc", "demo") == "now this"
        assert one.virsh("desc", "demo", "--config") == "later that"
        one.virsh("desc", "demo", "--title", "--live", "--config", "The demo")
        assert "The demo" in one.virsh("list", "--title")
        events.wait_for("metadata-change", "type title")
        one.virsh("desc", "demo", "--title", "--live", "--config", "")
        assert "<title>" not in one.virsh("dumpxml", "demo")


def test_elements_of_other_peoples_come_and_go(one: Session) -> None:
    one.virsh("metadata", "demo", URI, "--set", "<a><b>x</b></a>", "--key", "k", "--live", "--config")
    assert re.sub(r"\s", "", one.virsh("metadata", "demo", URI)) == "<a><b>x</b></a>"
    assert f"<k:a xmlns:k='{URI}'>" in one.virsh("dumpxml", "demo", "--inactive")
    one.virsh("metadata", "demo", URI, "--remove", "--live", "--config")
    assert "<metadata>" not in one.virsh("dumpxml", "demo")
    assert "error:" in one.virsh("metadata", "demo", URI, "--set", "<a>", "--key", "k", check=False)


def test_statistics_have_libvirts_names_and_types(one: Session) -> None:
    stats = dict(line.strip().split("=", 1) for line in one.virsh("domstats", "demo").splitlines() if "=" in line)
    assert stats["state.state"] == "1"
    assert stats["vcpu.current"] == stats["vcpu.maximum"] == stats["net.count"] == "1"
    assert int(stats["cpu.time"]) > 0
    assert int(stats["vcpu.0.time"]) >= 0
    assert int(stats["balloon.maximum"]) == 192 * 1024
    assert "state.state=1" in one.virsh("domstats", "--state", "--list-running", "--enforce")
    assert "demo" not in one.virsh("domstats", "--list-shutoff")
    assert "error:" in one.virsh("domstats", "--perf", "--enforce", check=False)


def test_vcpus_and_memory_are_counted(one: Session) -> None:
    counted = one.virsh("vcpucount", "demo").split()
    assert counted == [
        "maximum",
        "config",
        "1",
        "maximum",
        "live",
        "1",
        "current",
        "config",
        "1",
        "current",
        "live",
        "1",
    ]
    assert "actual 196608" in one.virsh("dommemstat", "demo")
    assert "guest agent is not configured" in one.virsh("vcpucount", "demo", "--guest", check=False)


@pytest.mark.parametrize("words", [("save", "demo", "/nowhere/x"), ("domrename", "demo", "x"), ("managedsave", "demo")])
def test_what_is_not_there_yet_says_so(one: Session, words: tuple[str, ...]) -> None:
    assert "this function is not supported by the connection driver" in one.virsh(*words, check=False)
