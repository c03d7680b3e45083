from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from virlet.xml import parse
from virlet.xml.escape import attribute, text

_LEGAL = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\t\n\r"), max_size=40).filter(
    lambda word: not any(letter in word for letter in "\ufffe\uffff")
)


@given(_LEGAL)
def test_what_was_escaped_reads_back(word: str) -> None:
    # Invariant: any legal text survives as attribute and as content.
    root = parse(f"<a b='{attribute(word)}'>{text(word)}</a>")
    assert (root.attributes["b"], root.text) == (word, word)
