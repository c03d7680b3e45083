"""Helpers that guests live by are kept alive: when one is started again, how it and QEMU meet, what is told."""
