#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdfleece in one command, on a machine with nothing but a base system (Debian, Ubuntu, Fedora):
#
#   ./quickstart.sh demo    install what is missing, build, and make an incremental backup of a
#                           disk with a file system while it is being written to, and of a qcow2 image
#   ./quickstart.sh test    install what is missing, build three times (plain, with ASan and UBSan,
#                           with TSan), run all tests; the last line is "N passed, N failed"
#   ./quickstart.sh build   install what is missing, build
#
# Everything goes below build/, which can be removed at any time; a second run only builds and
# installs what is missing. It asks no questions and needs no terminal. Packages are installed as
# root, through sudo if it is run by somebody else; QUICKSTART_INSTALL=no installs nothing.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$here/build
jobs=$(nproc)
# The messages of programs are compared below, so they have to be in English.
export LC_ALL=C.UTF-8

say() { printf '==> %s\n' "$*"; }
die() { printf 'quickstart.sh: %s\n' "$*" >&2; exit 1; }

# ---- packages ----
#
# One table for each purpose. A row is: what is needed, its Debian package, its Fedora package. "-" means
# that the distribution has it in another package or not at all.

needed_to_build='
  gcc             gcc                gcc
  libc            libc6-dev          glibc-devel
  make            make               make
  autoconf        autoconf           autoconf
  automake        automake           automake
  libtool         libtool            libtool
  pkg-config      pkg-config         pkgconf-pkg-config
  pod2man         perl               perl-podlators
  glib            libglib2.0-dev     glib2-devel
  json-glib       libjson-glib-dev   json-glib-devel
  gnutls          libgnutls28-dev    gnutls-devel
  libnbd          libnbd-dev         libnbd-devel
  sqlite          libsqlite3-dev     sqlite-devel
  zlib            zlib1g-dev         zlib-devel
  libzstd         libzstd-dev        libzstd-devel
  nbdkit-plugin.h nbdkit-plugin-dev  nbdkit-devel
  file            file               file
  cmp             -                  diffutils
  find            -                  findutils
  awk             -                  gawk
'
needed_for_demo='
  python3         python3            python3
  python3-nbd     python3-libnbd     python3-libnbd
  nbdcopy         libnbd-bin         libnbd
  mkfs.ext4       e2fsprogs          e2fsprogs
'
needed_for_tests='
  nbdkit          nbdkit             nbdkit
  qemu-img        qemu-utils         qemu-img
  qemu            qemu-system-x86    qemu-system-x86-core
  storage-daemon  -                  qemu-storage-daemon
  nbdkit-python   nbdkit-plugin-python  nbdkit-python-plugin
  nbdkit-curl     -                  nbdkit-curl-plugin
  nbdkit-nbd      -                  nbdkit-nbd-plugin
  zstd            zstd               zstd
  fio             fio                fio
  sqlite3         sqlite3            sqlite
  certtool        gnutls-bin         gnutls-utils
  openssl         openssl            openssl
  busybox         busybox-static     busybox
  cpio            cpio               cpio
  ps              procps             procps-ng
  ip              iproute2           iproute
  libasan         -                  libasan
  libubsan        -                  libubsan
  libtsan         -                  libtsan
'

# Without these some tests are skipped; not every release has them all. All plugins of nbdkit are here,
# since users have them (test-copies.py serves two disks of each). Not an SSH server, which would listen on this
# machine from then on: where there is none, the tests of `backup --ssh` are skipped.
wanted_for_tests='
  chromium        chromium           chromium-headless
  ssh             openssh-client     openssh-clients
  nbd-client      nbd-client         nbd
  nbdkit-cc       -                  nbdkit-cc-plugin
  nbdkit-cdi      -                  nbdkit-cdi-plugin
  nbdkit-example  -                  nbdkit-example-plugins
  nbdkit-guestfs  nbdkit-plugin-guestfs  nbdkit-guestfs-plugin
  nbdkit-iso      -                  nbdkit-iso-plugin
  nbdkit-libvirt  nbdkit-plugin-libvirt  nbdkit-libvirt-plugin
  nbdkit-linuxdisk  -                nbdkit-linuxdisk-plugin
  nbdkit-lua      nbdkit-plugin-lua  nbdkit-lua-plugin
  nbdkit-perl     nbdkit-plugin-perl nbdkit-perl-plugin
  nbdkit-ruby     nbdkit-plugin-ruby nbdkit-ruby-plugin
  nbdkit-ssh      -                  nbdkit-ssh-plugin
  nbdkit-tcl      nbdkit-plugin-tcl  nbdkit-tcl-plugin
  nbdkit-tmpdisk  -                  nbdkit-tmpdisk-plugin
  nbdkit-torrent  -                  nbdkit-torrent-plugin
'

# Print debian or fedora: the names that the packages of this machine have.
family() {
    local ID='' ID_LIKE=''
    [ -r /etc/os-release ] || die "there is no /etc/os-release: which distribution is this?"
    # shellcheck disable=SC1091
    . /etc/os-release
    case " $ID $ID_LIKE " in
        *" debian "* | *" ubuntu "*) echo debian ;;
        *" fedora "* | *" rhel "*) echo fedora ;;
        *) die "'$ID' is neither Debian, Ubuntu nor Fedora; README.md says how to build by hand" ;;
    esac
}

# The packages in the given tables, one in each line.
package_names() {
    local column
    case $(family) in debian) column=2 ;; fedora) column=3 ;; esac
    printf '%s\n' "$@" | awk -v column="$column" 'NF && $column != "-" { print $column }' | sort -u
}

is_installed() {
    case $(family) in
        debian) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
        fedora) rpm -q --whatprovides "$1" >/dev/null 2>&1 ;;
    esac
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        # sudo may ask for a password only if somebody can answer.
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi ||
            die "sudo failed; as root, by hand: $*"
    else
        die "packages are missing, and this is neither root nor is there sudo; as root: $*"
    fi
}

# The packages in the given tables that are missing, one in each line.
missing_packages() {
    local package
    for package in $(package_names "$@"); do
        is_installed "$package" || echo "$package"
    done
}

# Install these packages, all or none. The output goes to build/install.log.
install_now() {
    case $(family) in
        debian)
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -q -y -o Dpkg::Use-Pty=0 \
                install --no-install-recommends "$@"
            ;;
        fedora) as_root dnf -q -y install --setopt=install_weak_deps=False "$@" ;;
    esac >"$build/install.log" 2>&1
}

update_lists() {
    [ "$(family)" != debian ] || as_root apt-get -q -q update
}

# Install what is missing of the given tables, and say so.
install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "${QUICKSTART_INSTALL:-yes}" = yes ] || die "not installed: ${missing[*]}"
    say "Installing ${missing[*]}"
    update_lists
    (install_now "${missing[@]}") ||
        { tail -n 20 "$build/install.log" >&2; die "packages could not be installed"; }
}

# The same for packages that are not necessary: those that cannot be installed are only named.
install_wanted() {
    local package missing lacking=()
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "${QUICKSTART_INSTALL:-yes}" = yes ]; then
        say "Installing ${missing[*]}"
        (update_lists) || true
        (install_now "${missing[@]}") && return 0
        for package in "${missing[@]}"; do # one that does not exist must not prevent the others
            (install_now "$package") || lacking+=("$package")
        done
    else
        lacking=("${missing[@]}")
    fi
    [ ${#lacking[@]} -eq 0 ] ||
        say "Not installed, and the tests that want it will be skipped: ${lacking[*]}"
}

# The packages of the kernel for virtual machines that apt knows.
kernel_packages() {
    apt-cache depends --recurse --important \
        linux-image-cloud-amd64 linux-image-virtual 2>/dev/null |
        grep -E '^linux-(image|modules)-[0-9]' | sort -u
}

# A kernel for the guest in the tests, with its modules, unpacked below build/kernel: nothing is
# installed and no boot loader is touched. Where there is none, the test that wants it is skipped.
fetch_kernel() {
    local packages dir=$build/kernel
    [ "$(family)" = debian ] && [ "$(uname -m)" = x86_64 ] || return 0
    ls "$dir"/boot/vmlinuz-* >/dev/null 2>&1 && return 0
    [ "${QUICKSTART_INSTALL:-yes}" = yes ] || return 0
    [ -n "$(kernel_packages)" ] || as_root apt-get -q -q update || true
    packages=$(kernel_packages)
    say "Fetching a kernel for the guest in the tests: ${packages//$'\n'/ }"
    rm -rf "$dir" && mkdir -p "$dir"
    # shellcheck disable=SC2086
    if [ -z "$packages" ] || ! (cd "$dir" && apt-get -q -q download $packages 2>/dev/null &&
        for deb in ./*.deb; do dpkg-deb -x "$deb" . && rm -f "$deb"; done); then
        say "There is no kernel to fetch: the tests with a guest will be skipped"
    fi
}

# ---- building ----

# The steps are joined by &&, because set -e has no effect inside a condition.
do_build() {
    local dir=$1
    shift
    { [ -x "$here/configure" ] && [ -f "$here/build-aux/tap-driver.sh" ] ||
        (cd "$here" && autoreconf -fi); } &&
        cd "$dir" &&
        { [ -f Makefile ] || "$here/configure" -q CFLAGS='-g -O2' "$@"; } &&
        make -j "$jobs" "${make_targets[@]}"
}

# Build in build/NAME. The other arguments are for configure. If that fails, says why and returns 1.
build_tree() {
    local name=$1 dir=$build/$1
    shift
    say "Building build/$name"
    mkdir -p "$dir"
    if ! (do_build "$dir" "$@") >"$dir/build.log" 2>&1; then
        { grep -E -A 6 ' error: |undefined reference|\*\*\* ' "$dir/build.log" ||
            tail -n 30 "$dir/build.log"; } | cut -c 1-300 | head -n 60 >&2
        say "build/$name could not be built; all of it is in $dir/build.log" >&2
        return 1
    fi
}

# ---- tests ----

passed=0 failed=0
skips=()

# Add up the results of a build's tests. Each test program has written a .trs file, with a line such as
# ":test-result: PASS" for each result. The .log file beside it has names and reasons.
count_results() {
    local name=$1 trs result line
    while IFS= read -r -d '' trs; do
        while read -r result; do
            case $result in
                PASS | XFAIL) passed=$((passed + 1)) ;;
                SKIP) ;;
                *) failed=$((failed + 1)) ;;
            esac
        done < <(sed -n 's/^:test-result: \([A-Z]*\).*/\1/p' "$trs")
        while IFS= read -r line; do
            skips+=("$name: ${line#SKIP: }")
        done < <(grep '^SKIP: ' "${trs%.trs}.log" || true)
    done < <(find "$build/$name" -name '*.trs' -print0 | sort -z)
}

# Run a target of a build's make and count the results. Failures are shown with their logs.
run_tests() {
    local name=$1 target=$2 before=$failed log=$build/$1/check.log status=0
    say "Running the tests of build/$name"
    find "$build/$name" -name '*.trs' -delete
    ${wrapper[@]+"${wrapper[@]}"} make -C "$build/$name" -k -j "$jobs" "$target" >"$log" 2>&1 ||
        status=$?
    grep -E '^(FAIL|ERROR|XPASS): ' "$log" || true
    count_results "$name"
    if [ "$failed" -gt "$before" ]; then
        sed -n '/^FAIL: /,$p' "$build/$name/test-suite.log" 2>/dev/null | head -n 400
    elif [ "$status" -ne 0 ]; then
        failed=$((failed + 1))
        tail -n 30 "$log"
    fi
}

total() {
    if [ ${#skips[@]} -gt 0 ]; then
        say "Skipped:"
        printf '    %s\n' "${skips[@]}"
        printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "${#skips[@]}"
    else
        printf '%d passed, %d failed\n' "$passed" "$failed"
    fi
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# True if a program with ThreadSanitizer can run here. Some kernels randomise addresses more than it
# can bear; then setarch(8) turns that off. Sets `wrapper`.
probe_tsan() {
    local program=$build/probe-tsan
    echo 'int main(void) { return 0; }' >"$program.c"
    gcc -fsanitize=thread "$program.c" -o "$program" 2>/dev/null || return 1
    wrapper=()
    "$program" 2>/dev/null && return 0
    wrapper=(setarch -R)
    "${wrapper[@]}" "$program" 2>/dev/null
}

cmd_test() {
    local name options wrapper=()
    install_packages "$needed_to_build" "$needed_for_demo" "$needed_for_tests"
    install_wanted "$wanted_for_tests"
    fetch_kernel
    export FLEECE_GUEST_KERNEL=$build/kernel
    make_targets=(check TESTS=) # builds everything and the test programs, but runs no test
    for name in plain asan tsan; do
        options=()
        wrapper=()
        case $name in
            asan) options=(--enable-sanitizer=address) ;;
            tsan)
                options=(--enable-sanitizer=thread)
                if ! probe_tsan; then
                    skips+=("tsan: programs with ThreadSanitizer do not run on this machine")
                    continue
                fi
                ;;
        esac
        if ! build_tree "$name" ${options[@]+"${options[@]}"}; then
            failed=$((failed + 1))
            continue
        fi
        case $name in
            tsan) run_tests "$name" check-tsan ;;
            *) run_tests "$name" check ;;
        esac
    done
    total
}

cmd_build() {
    install_packages "$needed_to_build"
    make_targets=(all)
    build_tree plain
    say "Built: build/plain/nbdfleece and build/plain/fleecectl run as they are"
}

cmd_demo() {
    install_packages "$needed_to_build" "$needed_for_demo"
    make_targets=(all)
    build_tree plain
    "$here/tests/demo.sh" "$build/plain"
}

mkdir -p "$build"
case ${1-} in
    demo | test | build) "cmd_$1" ;;
    *)
        sed -n '4,/^$/s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
