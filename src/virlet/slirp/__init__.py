"""The program ``virlet-slirp-helper``: a user network (libslirp) in a confined process of its own, beside QEMU."""
