"""Stand-ins: a driver in memory, and a QEMU and a passt that speak the real protocols and run no guest."""
