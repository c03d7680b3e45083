"""QEMU's monitor: the QEMU project's own QMP library, behind an API of a page."""
