"""Entry points without importlib.metadata, which is the oracle."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from virlet.plugins import EntryPoint, entry_points


def distribution(folder, name, text, version="1"):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(text)


@pytest.mark.parametrize("group", ["virlet.net", "virlet.drivers", "console_scripts", "pytest11", "none"])
def test_the_answers_are_those_of_importlib_metadata(group):
    oracle = {(point.name, point.value.partition(" [")[0]) for point in importlib.metadata.entry_points(group=group)}
    assert set(entry_points(group)) == oracle


def test_ours_are_there_and_load():
    assert {"passt", "slirp"} <= {point.name for point in entry_points("virlet.net")}
    (passt,) = entry_points("virlet.net", "passt")
    assert passt.load() is importlib.import_module("virlet.net.passt").Passt


def test_the_first_of_several_copies_counts(tmp_path, monkeypatch):
    distribution(tmp_path / "one", "My_Plug", "[virlet.net]\n# x = y:Z\n first = a.b:C [extra]\n\n[other]\nq = r:S\n")
    distribution(tmp_path / "two", "my_plug", "[virlet.net]\nsecond = a:C\n", "2")
    distribution(tmp_path / "two", "another", "[ virlet.net ]\nthird=a:C\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "none")])
    assert entry_points("virlet.net") == (EntryPoint("first", "a.b:C"), EntryPoint("third", "a:C"))


def test_a_file_that_is_no_text_is_passed_over(tmp_path, monkeypatch):
    distribution(tmp_path, "broken", "")
    (tmp_path / "broken-1.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[virlet.net]")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert entry_points("virlet.net") == ()


@pytest.mark.parametrize("value", ["no_such_module_here:X", "virlet.errors:Nothing"])
def test_a_broken_promise_is_an_error(value):
    with pytest.raises((ImportError, AttributeError)):
        EntryPoint("x", value).load()
