#!/bin/sh
# PID 1 of a build's own mount and PID namespaces: whatever ends it, ends all of the build and unmounts
# all that the build has mounted.
#   $1  the build's directory: in/ (files for it), out/ (what it makes), tree/ (its files, if on disk)
#   $2  "disk", or a size of a tmpfs in bytes
#   $@  mmdebstrap's arguments
# Standard input is a pipe from the owner: its end means that the owner is gone or has had enough.
set -eu
work=$1
room=$2
shift 2

trap 'exit 143' TERM
mkdir "$work/view"
if [ "$room" = disk ]; then
  mount --bind "$work/tree" "$work/view"
else
  mount -t tmpfs -o "mode=0755,size=$room" build "$work/view"
fi
mkdir "$work/view/in" "$work/view/out" "$work/view/tmp"
chmod 1777 "$work/view/tmp"
cp -R "$work/in/." "$work/view/in/"
chmod -R a+rX "$work/view/in"
mount --bind "$work/out" "$work/view/out"
# One path that every user can reach, wherever the store is.
mount --rbind "$work/view" /mnt
cd /mnt
export TMPDIR=/mnt/tmp

exec 3<&0
mmdebstrap "$@" </dev/null 3<&- &
build=$!
{ cat <&3 || :; kill -TERM 1; } >/dev/null 2>&1 &
exec >&- 3<&-
status=0
wait "$build" || status=$?
exit "$status"
