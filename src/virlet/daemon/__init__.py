"""virletd: the server that speaks libvirt's protocol on a user's own socket."""
