"""Imports without what nothing of ours uses."""

from __future__ import annotations

import subprocess
import sys


def _said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout


def test_the_daemon_and_its_monitors_load_neither_openssl_nor_decompressors() -> None:
    code = (
        "import sys, virlet.daemon.main, virlet.engine.session, virlet.qmp.client\n"
        "names = 'ssl', '_ssl', '_hashlib', 'argparse', 'pickle', 'shutil', '_bz2'\n"
        "print([name for name in names if name in sys.modules])"
    )
    assert _said(code) == "[]\n"


def test_who_imports_it_later_gets_the_real_one() -> None:
    code = "import virlet.daemon.main, virlet.qmp.client, ssl; print(ssl.SSLContext.__module__, ssl.HAS_TLSv1_3)"
    assert _said(code) == "ssl True\n"


def test_one_that_was_imported_before_stays() -> None:
    code = "import ssl, sys, virlet.daemon.main, asyncio.sslproto as p; print(sys.modules['ssl'] is ssl is p.ssl)"
    assert _said(code) == "True\n"
