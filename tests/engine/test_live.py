"""What QEMU answers is not trusted, and goes where libvirt shows it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from virlet.engine.live import pty_paths, vnc_ports, with_backends, with_ptys, with_vnc_ports
from virlet.model.domain import format_domain, parse_domain
from virlet.plan.assign import assign_aliases

XML = """<domain type='qemu'><name>a</name><memory>1024</memory><os><type arch='x86_64'>hvm</type></os><devices>
<serial type='pty'/><console type='pty'/><graphics type='vnc' port='-1'/></devices></domain>"""


def test_terminals_and_ports_show_in_the_live_xml() -> None:
    domain = assign_aliases(parse_domain(XML)[0])
    domain = with_ptys(domain, {"charserial0": "/dev/pts/7"})
    domain = with_vnc_ports(domain, (5907,))
    live = format_domain(domain)
    assert "<source path='/dev/pts/7'/>" in live
    assert "port='5907'" in live


def test_only_terminals_are_taken_for_terminals() -> None:
    said = [
        {"label": "charserial0", "filename": "pty:/dev/pts/12"},
        {"label": "charserial1", "filename": "pty:/dev/pts/../../etc/passwd"},
        {"label": "charmonitor", "filename": "unix:/x"},
        {"label": 7, "filename": "pty:/dev/pts/1"},
        "nonsense",
    ]
    assert pty_paths(said) == {"charserial0": "/dev/pts/12"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["label", "filename", "server", "service"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(anything)
def test_any_answer_is_read_without_an_error(answer: object) -> None:
    assert all(isinstance(path, str) for path in pty_paths(answer).values())
    assert all(isinstance(port, int) for port in vnc_ports(answer))


def test_a_choice_is_written_where_there_was_one() -> None:
    parsed, _ = parse_domain(
        "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>"
        "<interface type='user'></interface>"
        "<interface type='user'><backend type='passt'/></interface>"
        "<interface type='user' xmlns:virlet='https://virlet.dev/schemas/domain/1'>"
        "<virlet:backend name='slirp'/></interface>"
        "<interface type='user'></interface>"
        "<interface type='null'></interface>"
        "</devices></domain>"
    )
    chosen = {"net0": "passt", "net1": "passt", "net2": "slirp", "net4": "null"}
    live = with_backends(assign_aliases(parsed), chosen).devices.interfaces
    assert [nic.forced_backend for nic in live] == ["passt", None, "slirp", None, None]
