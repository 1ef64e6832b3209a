#!/bin/bash
# SPDX-License-Identifier: MIT
# The first process of a room: a process and mount namespace of its own (lib/fresh/room.py makes them). Makes ROOT the
# root directory with what a container has below /proc, /sys and /dev, and runs COMMAND in DIRECTORY there. When it
# ends the kernel ends whatever else is in the namespace, and the mounts go with the last of them.
# usage: room.sh ROOT DIRECTORY COMMAND [ARGS]
set -euo pipefail

fill_dev() {
  local name
  mount -t tmpfs -o mode=755,size=1M,nosuid dev "$1"
  for name in null zero full random urandom tty; do
    : >"$1/$name"
    mount --bind "/dev/$name" "$1/$name"
  done
  mkdir "$1/pts" "$1/shm"
  mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$1/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev shm "$1/shm"
  ln -s pts/ptmx "$1/ptmx"
  ln -s /proc/self/fd "$1/fd"
  for name in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${name%:*}" "$1/${name#*:}"; done
}

main() {
  local root=$1 directory=$2 status=0
  shift 2
  mount --bind "$root" "$root"
  mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
  fill_dev "$root/dev"
  # smbd looks there for the file system it asks for quotas.
  [[ -e $root/etc/mtab || -L $root/etc/mtab ]] || ln -s /proc/mounts "$root/etc/mtab"
  mkdir -p "$root/.before"
  cd "$root"
  # Not chroot alone: there the kernel refuses what tests do with namespaces.
  pivot_root . .before
  umount -l /.before
  rmdir /.before
  cd "$directory"
  "$@" || status=$?
  exit "$status"
}

main "$@"
