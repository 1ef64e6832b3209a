#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The guest's first process, from the initrd: loads what is needed to see the host's root file system (or another Debian's),
# puts a layer in memory over it, so that the guest may write anywhere and the host sees none of it, and goes on there.
# shellcheck shell=dash

busybox=/bin/busybox
say() { echo "smbdirectd-vm: $*" >/dev/kmsg; }
must() { "$@" || { say "failed in the guest's init: $*"; $busybox poweroff -f; }; }

$busybox mount -t devtmpfs dev /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
while read -r module; do
  must $busybox insmod "/modules/$module"
done </modules/order

plan9=trans=virtio,version=9p2000.L,msize=262144
must $busybox mount -t 9p -o "ro,cache=loose,$plan9" host /lower
must $busybox mount -t tmpfs -o mode=755,size=90% layer /layer
$busybox mkdir /layer/upper /layer/work
must $busybox mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work root /new
$busybox mkdir -p /new/run /new/proc /new/sys /new/dev /new/tmp /new/lib/modules
must $busybox mount -t tmpfs -o mode=755 run /new/run
$busybox mkdir /new/run/lock /new/run/vm /new/run/vm-output
must $busybox mount -t 9p -o "$plan9" run /new/run/vm
if [ -e /new/run/vm/with-output ]; then must $busybox mount -t 9p -o "$plan9" output /new/run/vm-output; fi
must $busybox mount -t 9p -o "ro,cache=loose,$plan9" modules /new/lib/modules

$busybox mkdir -p /dev/pts /dev/shm
$busybox mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
$busybox mount -t tmpfs -o mode=1777 shm /dev/shm
for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
  [ -e "/dev/${link%%:*}" ] || $busybox ln -s "${link#*:}" "/dev/${link%%:*}"
done
$busybox hostname guest
echo 127.0.0.1 localhost guest >/new/etc/hosts
$busybox ip link set lo up
for place in dev proc sys; do $busybox mount -o move /$place /new/$place; done
# In place of this process: what the kernel itself runs, such as modprobe, follows into the new root with it.
exec $busybox switch_root /new /run/vm/main
