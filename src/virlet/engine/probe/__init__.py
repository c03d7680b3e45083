"""What this host has and can do, asked: QEMU, passt, the slirp helper, KVM, security modules."""
