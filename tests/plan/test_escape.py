"""No name in a domain's XML leads out of the guest's own directories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from virlet.errors import VirletError
from virlet.plan.base import FdSource, GuestDirs, LaunchPlan, Listener, render
from virlet.plan.facts import Facts

PlanOf = Callable[[str, Facts], LaunchPlan]

XML = """<domain type='qemu'><name>{name}</name><title>{name}</title><memory>65536</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<interface type='user'><backend type='passt'/><alias name={alias}/></interface>
<channel type='unix'><target type='virtio' name={quoted}/><alias name={alias2}/></channel>
<serial type='unix'><source mode='bind'/></serial><graphics type='vnc'><listen type='socket'/></graphics>
</devices></domain>"""

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60) | st.sampled_from(
    ["..", ".", "../../etc/passwd", "/etc/passwd", "a/../../b", "~/x", "-name", "a,b=c", "x" * 300, "$(id)", "a\u2044b"]
)


def paths(plan: LaunchPlan) -> Iterator[Path]:
    """Every path that the engine or QEMU will make for the guest."""
    yield from (*plan.directories, *plan.leaves, plan.monitor.path, plan.log.path)
    yield from (source.path for source in plan.fds if isinstance(source, Listener))
    for net in plan.nets:
        if net.helper is not None:
            yield from net.helper.leaves
            if net.helper.stderr is not None:
                yield net.helper.stderr.path


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names, alias=names, other=names)
@example("../../x", "ua-../../x", "ua-/etc/x")
@example("x", "ua-" + "y" * 120, "ua-" + "z" * 500)
def test_nothing_is_made_outside(
    plan_of: PlanOf, facts: Facts, dirs: GuestDirs, name: str, alias: str, other: str
) -> None:
    """Invariant: the XML is refused, or every path is below the guest's own directories and short enough to bind."""
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = XML.format(name=escaped, quoted=quoteattr(name), alias=quoteattr(alias), alias2=quoteattr(other))
    try:
        plan = plan_of(text, facts)
    except VirletError:
        return
    own = (dirs.runtime, dirs.logs, dirs.state)
    for path in paths(plan):
        assert ".." not in path.parts
        assert any(path.is_relative_to(each) for each in own), path
        assert path.suffix != ".sock" or len(str(path).encode()) <= 60
    words = render(plan.argv, _number)
    assert all("\0" not in word for word in words)
    assert [word for word in words if word.startswith("guest=")] == [
        f"guest={plan.name.replace(',', ',,')},debug-threads=on"
    ]


def _number(_source: FdSource) -> int:
    return 9


@pytest.mark.parametrize("name", ["a/b", "/", "a\nb"])
def test_names_that_could_be_paths_are_refused(plan_of: PlanOf, facts: Facts, name: str) -> None:
    text = XML.format(name=name, quoted="'a'", alias="'ua-a'", alias2="'ua-b'")
    with pytest.raises(VirletError):
        plan_of(text, facts)
