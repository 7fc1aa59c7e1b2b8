#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# An incremental backup, from beginning to end, of a real file system: demo.sh BUILD-FOLDER
#
# A disk with an ext4 file system is served to a guest that writes without a pause; beside it a qcow2 image
# over a template, to another guest. A full backup is made of the first, then an incremental one, each
# at an exact instant. A comparison byte by byte, and fsck, prove that the backup is the disk at the second
# instant. Then the server is killed with -9 while the guests write, and the next incremental backup goes on
# from there; the qcow2 image is not corrupt. At last, the same by one command, for both disks: fleecectl
# backup, twice, verify and restore.
#
# tests/demo-guest.py plays the guest, so that neither root nor a virtual machine is needed. It changes
# files in a copy of the disk with debugfs, and writes the changed blocks over NBD.

set -euo pipefail

build=$(cd "$1" && pwd)
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}
# The programs of e2fsprogs are not in every user's path.
PATH=$build:$PATH:/usr/sbin:/sbin
export PYTHONPATH=$source/tests/lib PYTHONDONTWRITEBYTECODE=1

work=$(mktemp -d "${TMPDIR:-/var/tmp}/nbdfleece-demo.XXXXXX")
server='' guests=()
clean_up() {
    [ ${#guests[@]} -eq 0 ] || kill "${guests[@]}" 2>/dev/null || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap clean_up EXIT
cd "$work"

fail() {
    printf 'demo.sh: %s\n' "$*" >&2
    exit 1
}
step=0
title() {
    step=$((step + 1))
    printf '\n%d. %s\n\n' "$step" "$*"
}
# Show a command as a user would type it, then run it.
run() {
    local word line='   $'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=@%+,-]*) line+=" '$word'" ;;
            *) line+=" $word" ;;
        esac
    done
    printf '%s\n' "$line"
    "$@" 2>&1 | sed 's/^/     /'
}

export NBDFLEECE_CONTROL=qmp.sock
live='nbd+unix:///vda?socket=nbd.sock'
live_qcow2='nbd+unix:///vdb?socket=nbd.sock'

printf 'nbdfleece: an incremental backup of a disk that is in use, in %s\n' "$work"

title 'A disk with an ext4 file system, and files in it'
mkdir files
cp -r --no-preserve=mode "$source"/server "$source"/client "$source"/common "$source"/man files/
run truncate -s 512M vda.raw
run mke2fs -q -t ext4 -d files vda.raw
cp --sparse=always vda.raw guest.raw # what the guest knows of its disk, like its page cache
printf '\n   Another one: a qcow2 image over a template, with the same files\n\n'
run truncate -s 128M template.raw
run mke2fs -q -t ext4 -d files template.raw
run fleecectl image create vdb.qcow2 --backing template.raw --backing-format raw

title 'Serve it, with a control socket, and a folder in which checkpoints survive'
mkfifo pid
serve() {
    printf '   $ %s\n' 'nbdfleece -f -U nbd.sock -C qmp.sock --state state \' \
        '         --disk vda file vda.raw --disk vdb qcow2 vdb.qcow2 &'
    nbdfleece -f -P pid -U nbd.sock -C qmp.sock --state state \
        --disk vda file vda.raw --disk vdb qcow2 vdb.qcow2 &
    server=$!
    # The line comes when clients can connect. Opened for writing too, so that the time limit counts.
    read -r -t 60 _ <>pid || fail 'the server has not started'
}
serve
run fleecectl disks

title 'Monday: freeze an instant, and begin to record what changes from then on'
run fleecectl session begin monday --checkpoint mon
run nbdcopy 'nbd+unix:///monday%2Fvda?socket=nbd.sock' backup.raw
run fleecectl session commit monday

title 'The guest adds files, deletes a folder, and replaces a file'
head -c 24M /dev/urandom >photos
"$python" "$source/tests/demo-guest.py" change "$live" guest.raw photos | sed 's/^/     /'
run fleecectl checkpoint list

title 'Tuesday: freeze the next instant; what changed since Monday stands still with it'
run fleecectl session begin tuesday --since mon --checkpoint tue
cp --sparse=always guest.raw tuesday.raw # only to compare with, at the end
frozen='nbd+unix:///tuesday%2Fvda?socket=nbd.sock'
printf '   $ nbdinfo --map=qemu:dirty-bitmap:backup-vda %s\n' "'$frozen'"
nbdinfo --map=qemu:dirty-bitmap:backup-vda "$frozen" >map
sed 's/^/     /' map | head -n 12
[ "$(wc -l <map)" -le 12 ] || printf '     ... %d more\n' $(($(wc -l <map) - 12))
run fleecectl map "$frozen" --bitmap backup-vda

title 'Pull only that, while the guest goes on writing all over the disk'
mkfifo writing
storm() {
    local uri
    for uri in "$live" "$live_qcow2"; do
        "$python" "$source/tests/demo-guest.py" storm "$uri" writing 2>guest.log &
        guests+=($!)
        read -r -t 60 _ <>writing || fail 'the guest does not write'
    done
}
calm() {
    kill "${guests[@]}" 2>/dev/null || true
    wait "${guests[@]}" || true
    guests=()
}
storm
"$python" "$source/tests/demo-pull.py" "$frozen" backup-vda backup.raw | sed 's/^/     /'
calm
run fleecectl session list
run fleecectl session commit tuesday

title 'The proof: Monday plus the changes is the disk on Tuesday, though the disk has moved on'
run cmp backup.raw tuesday.raw
printf '     the same, byte by byte\n'
run e2fsck -f -n backup.raw
if cmp -s vda.raw tuesday.raw; then
    printf '     the guest has written nothing meanwhile: this proves little\n'
    exit 1
fi
printf '     and the live disk is another one by now\n'

title 'A crash: kill -9 while the guest writes; a new server goes on'
storm
printf '   $ %s\n' 'kill -9 %1'
kill -9 "$server"
wait "$server" 2>/dev/null || true # bash says there that it was killed
calm
run fleecectl image check vdb.qcow2 --repair leaks
printf '     no corruption, as after any crash; what leaks was set aside, and could have stayed\n'
serve
run fleecectl checkpoint list

title 'Wednesday: pull what changed since Tuesday, before the crash and after it'
run fleecectl session begin wednesday --since tue --checkpoint wed
cp --sparse=always vda.raw wednesday.raw # the guest is silent now
"$python" "$source/tests/demo-pull.py" 'nbd+unix:///wednesday%2Fvda?socket=nbd.sock' backup-vda \
    backup.raw | sed 's/^/     /'
run fleecectl session commit wednesday
run cmp backup.raw wednesday.raw
printf '     the same again: no block that changed around the crash was forgotten\n'

title 'All of this by one command: a repository; in full, then what the guest has written since'
run fleecectl backup -o repository
storm
calm
run fleecectl backup -o repository
run fleecectl list repository
run fleecectl verify repository --deep
run fleecectl restore repository --disk vda -o restored.raw
run cmp restored.raw vda.raw
run fleecectl restore repository --disk vdb -o restored-vdb.raw
run nbdcopy "$live_qcow2" vdb.raw
run cmp restored-vdb.raw vdb.raw
printf '     both disks, out of the repository\n'

title 'An orderly end'
run fleecectl qmp quit
wait "$server"
server=''
run fleecectl image check vdb.qcow2
printf '\nDone: all as it should be.\n'
