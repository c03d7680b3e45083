"""libvirt's wire protocol without I/O: codecs, procedures, packets, and a connection as a pure state machine."""
