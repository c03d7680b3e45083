# Shared by script/root-debian13 and script/root-newest (sourced, bash, after lib.sh): other Debians to test in.

SUITE=trixie

# What a root is made of: another script, another root.
root_stamp() { cat "$ROOT_DIR"/script/root{s.sh,-debian13,-newest} | sha256sum; }

root_made() { [ "$(cat "$1/etc/virlet-root" 2>/dev/null)" = "$(root_stamp)" ]; }

# make_root WHAT ROOT COMMAND...: unless it is there, have COMMAND make it in ROOT.new, then say what is in it.  COMMAND
# runs in a mount namespace of its own, so that a failure leaves nothing mounted.
make_root() {
    local what=$1 root=$2
    shift 2
    [ "$(id -u)" = 0 ] || die "building a root needs root"
    command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"
    mkdir -p "$(dirname "$root")"
    exec 9>"$root.lock"
    flock 9
    root_made "$root" || step "Building a root of $what in $root (about a minute)" build_root "$root" "$@"
    need_user
    exec 9>&-
    say "$what in $root"
    generation "$ROOT_DIR/script/in-root" "$root"
}

build_root() {
    local root=$1
    shift
    rm -rf "$root.new"
    mkdir -p "$root.new"
    unshare --mount --propagation private "$@" || return
    root_stamp >"$root.new/etc/virlet-root"
    rm -rf "$root"
    mv "$root.new" "$root"
}

# in_chroot ROOT COMMAND...: for packages, with /proc and /dev; the mounts end with the namespace.
in_chroot() {
    local root=$1 name
    shift
    for name in proc dev; do mountpoint -q "$root/$name" || mount --rbind "/$name" "$root/$name"; done
    DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"
}
