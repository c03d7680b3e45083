# Shared by script/setup, script/demo and script/test (sourced, bash): packages, user, tree, virtual environment, guest.
#
# After `prepare demo` or `prepare test`:
#   TREE    the sources, where the user can read them       VENV    the virtual environment they are installed in
#   GUEST   the directory of the test guest                 as_user COMMAND...   runs it as the user, unprivileged
#
# Started as root everything runs as the user virlet-test, which is made; else as whoever started it.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin # Debian's own programs
export PATH LC_ALL=C.UTF-8
umask 022
ROOT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TEST_USER=virlet-test
NEWEST_ROOT=/var/lib/virlet-test/newest
DEBIAN13_ROOT=/var/lib/virlet-test/debian13
WORK=
trap '[ -z "$WORK" ] || rm -rf "$WORK"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# A directory for logs, gone when the script ends.
need_work() { [ -n "$WORK" ] || WORK=$(mktemp -d "${TMPDIR:-/tmp}/virlet-setup.XXXXXX"); }

# step WHAT COMMAND...: say what is done, do it, say how long it took; its output only when it fails, and every 15
# seconds its last line, so that nobody looks at a silent terminal.
step() {
    local what=$1 log begun=$SECONDS status=0 ticker
    shift
    need_work
    log=$WORK/step.log
    say "$what"
    : >"$log"
    [ -p "$WORK/never" ] || mkfifo "$WORK/never" # nobody writes to it: a pause that leaves no sleep behind
    (
        exec 8<>"$WORK/never" 9>&-
        until read -r -t 15 -u 8; do printf '    ... %s\n' "$(tail -n 1 "$log" | cut -c 1-110)"; done
    ) &
    ticker=$!
    ("$@") >"$log" 2>&1 </dev/null || status=$?
    kill "$ticker" 2>/dev/null
    wait "$ticker" 2>/dev/null || true
    if [ "$status" != 0 ]; then
        tail -n 40 "$log" | sed 's/^/    /' >&2
        die "$what: failed with status $status after $((SECONDS - begun)) s (the last lines are above)"
    fi
    printf '    done in %d s\n' $((SECONDS - begun))
}

# generation PREFIX...: the versions of what virlet drives, asked from dpkg (passt itself often does not know its own).
generation() {
    "$@" dpkg-query -W -f '    ${Package} ${Version}\n' qemu-system-x86 passt libvirt-clients python3
}

# --- Debian packages

package_known() { [ -n "$(apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)"')" ]; }
package_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# What demo and test need on Debian 12 and 13.  The RelaxNG schemas are in libvirt0, since Debian 13 in libvirt-common.
wanted_packages() {
    echo qemu-system-x86 passt libvirt-clients python3 python3-venv iproute2 procps
    [ "$1" = test ] || return 0
    echo qemu-utils libvirt-daemon libvirt-daemon-driver-qemu python3-libvirt strace dbus-daemon
    if [ "$(debian_version)" -ge 13 ]; then echo libvirt-common; else echo libvirt0; fi
    if [ "$(id -u)" = 0 ]; then echo debootstrap; fi
}

debian_version() { (. /etc/os-release && echo "${VERSION_ID:-99}" | cut -d . -f 1); }

missing_packages() {
    local name
    for name in $(wanted_packages "$1"); do
        package_installed "$name" || echo "$name"
    done
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q -o Acquire::Retries=3 || return
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 $1
}

need_packages() {
    local missing sudo=
    command -v dpkg-query >/dev/null || die "this set-up is for Debian 12 and 13 (no dpkg-query here); the README says what virlet needs elsewhere"
    missing=$(missing_packages "$1" | tr '\n' ' ')
    missing=${missing% }
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null && sudo='sudo '
        echo "These Debian packages are missing: $missing" >&2
        echo "Install them with this one command${sudo:- (as root)}, then start again:" | sed 's/sudo //' >&2
        echo "    ${sudo}sh -c 'apt-get update && apt-get install -y --no-install-recommends $missing'" >&2
        exit 1
    fi
    step "Installing Debian packages: $missing" install_packages "$missing"
}

# --- the user

need_user() {
    if [ "$(id -u)" != 0 ]; then
        TEST_USER=$(id -un)
        USER_HOME=$HOME
        RUNTIME=${XDG_RUNTIME_DIR-}
        return
    fi
    id "$TEST_USER" >/dev/null 2>&1 || step "Making the user $TEST_USER" useradd --create-home --shell /bin/bash "$TEST_USER"
    USER_HOME=$(getent passwd "$TEST_USER" | cut -d : -f 6)
    RUNTIME=/run/user/$(id -u "$TEST_USER")
    mkdir -p /run/user
    install -d -m 0700 -o "$TEST_USER" -g "$(id -gn "$TEST_USER")" "$RUNTIME"
}

# What the user's processes inherit: nothing but where things are, how the network and pip are reached, and test knobs.
user_environment() {
    local name
    printf '%s\0' "HOME=$USER_HOME" "USER=$TEST_USER" "LOGNAME=$TEST_USER" LANG=C.UTF-8 "TERM=${TERM:-dumb}" \
        "PATH=${VENV:+$VENV/bin:}/usr/bin:/bin:/usr/sbin:/sbin" PYTHONDONTWRITEBYTECODE=1
    [ -z "${RUNTIME-}" ] || printf '%s\0' "XDG_RUNTIME_DIR=$RUNTIME"
    [ -z "${GUEST-}" ] || printf '%s\0' "VIRLET_GUEST_DIR=$GUEST"
    for name in $(compgen -e); do
        case $name in
        CI | NO_COLOR | COLUMNS | PIP_* | VIRLET_* | http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | SSL_CERT_FILE | SSL_CERT_DIR)
            [ "$name" = VIRLET_GUEST_DIR ] || printf '%s\0' "$name=${!name}"
            ;;
        esac
    done
}

# The words before a command that make it run as the user without any capability, with a clean environment.  BOUNDING is
# what a set-user-ID program below it can have: nothing, but `+all` for who needs one, as in any session of a user.
user_prefix() {
    local -a clean
    mapfile -d '' clean < <(user_environment)
    PREFIX=(env -i "${clean[@]}")
    [ "$(id -u)" != 0 ] ||
        PREFIX=(setpriv --reuid="$TEST_USER" --regid="$(id -g "$TEST_USER")" --init-groups --inh-caps=-all
            --bounding-set="${BOUNDING:--all}" "${PREFIX[@]}")
}

as_user() {
    local -a PREFIX
    user_prefix
    "${PREFIX[@]}" "$@" 9>&- # a daemon that outlives us must not keep our lock
}

# --- the tree: a clone may lie where only root can read

need_tree() {
    local key
    if [ "$(id -u)" != 0 ]; then
        TREE=$ROOT_DIR
        mkdir -p "$USER_HOME/.cache/virlet"
        exec 9>"$USER_HOME/.cache/virlet/setup.lock"
    else
        key=$(printf %s "$ROOT_DIR" | sha256sum | cut -c 1-8)
        TREE=$USER_HOME/virlet-src/$key
        install -d -o "$TEST_USER" -g "$(id -gn "$TEST_USER")" "$USER_HOME/virlet-src" "$USER_HOME/.cache"
        exec 9>"$TREE.lock"
    fi
    flock -n 9 || { say "Waiting for another run from $ROOT_DIR to end" && flock 9; }
    [ "$TREE" = "$ROOT_DIR" ] || step "Copying the sources to $TREE" copy_tree
}

copy_tree() {
    rm -rf "$TREE.new"
    mkdir "$TREE.new"
    sed 's,/$,,' "$ROOT_DIR/.gitignore" >"$WORK/exclude"
    tar -C "$ROOT_DIR" --exclude=./.git --exclude-from="$WORK/exclude" -cf - . | tar -C "$TREE.new" --no-same-owner -xf - || return
    chown -R "$TEST_USER:" "$TREE.new"
    chmod -R go-w,a+rX "$TREE.new"
    rm -rf "$TREE"
    mv "$TREE.new" "$TREE"
}

# --- the virtual environment, by Debian's own Python

need_venv() {
    VENV=$USER_HOME/.cache/virlet/venv/$(venv_key)
    [ -f "$VENV/made-for-$1" ] || step "Making the virtual environment (pip, from PyPI or as pip is configured)" \
        as_user "$TREE/script/make-venv" "$VENV" "$TREE" "$1"
}

venv_key() { # another Python, other dependencies or another place of the sources: another environment
    { cat "$TREE/pyproject.toml" "$TREE/script/make-venv" && echo "$TREE" && readlink -f /usr/bin/python3 && echo "${1-}"; } |
        sha256sum | cut -c 1-12
}

need_guest() {
    GUEST=$USER_HOME/.cache/virlet/guest
    if ! as_user "$TREE/script/make-guest" --check "$GUEST" >/dev/null 2>&1; then
        step "Making the test guest (Debian's kernel, busybox)" as_user "$TREE/script/make-guest" "$GUEST"
    fi
}

# prepare demo|test: all of the above, saying what is done; quick when everything is there.
prepare() {
    need_packages "$1"
    need_user
    need_tree
    need_venv "$1"
    need_guest
    say "Ready after $SECONDS s: user $TEST_USER, sources $TREE, environment $VENV"
}

# --- the other generations: Debian 13, and with its backports the newest, in roots of their own (root only)

# need_root NAME ROOT: that root, and the virtual environment in it; sets VENV, which script/in-root reads.  Roots of one
# Python share it.
need_root() {
    "$ROOT_DIR/script/root-$1" 9>&-
    VENV=$USER_HOME/.cache/virlet/venv/$(venv_key "$(cat "$2/etc/virlet-root")")
    export VENV
    [ -f "$VENV/made-for-test" ] ||
        step "Making the virtual environment of that root" "$ROOT_DIR/script/in-root" "$2" "$TREE/script/make-venv" "$VENV" "$TREE" test
}

in_newest() { GUEST=$GUEST "$ROOT_DIR/script/in-root" "$NEWEST_ROOT" "$@" 9>&-; }
in_debian13() { GUEST=$GUEST "$ROOT_DIR/script/in-root" "$DEBIAN13_ROOT" "$@" 9>&-; }
