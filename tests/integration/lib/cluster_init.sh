#!/bin/bash
# SPDX-License-Identifier: MIT
# The first process of a node of lib/cluster_node.py, in namespaces of its own: what the node changes of the machine's files
# goes below DIRECTORY, and with this process all of the node ends.
#
#     cluster_init.sh NAME DIRECTORY SHARE    SHARE: what our package adds to /usr/share/ctdb
set -eu
name=$1 directory=$2 share=$3

hostname "$name"
ip link set lo up
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/samba /run/ctdb /run/lock
mkdir -p "$directory"/etc "$directory"/etc.work
mount -t overlay -o "lowerdir=/etc,upperdir=$directory/etc,workdir=$directory/etc.work" overlay /etc
mount -t overlay -o "lowerdir=$share:/usr/share/ctdb" overlay /usr/share/ctdb
for path in lib/ctdb lib/samba cache/samba log/samba log/ctdb; do
    mkdir -p "$directory/var/$path"
    mount --bind "$directory/var/$path" "/var/$path"
done
mkdir -p /var/lib/ctdb/{persistent,volatile,state} /var/lib/samba/{private,usershares}
echo up >"$directory/up"
# Reaps what is orphaned here.
while :; do
    sleep 3600 &
    wait $!
done
