#!/bin/sh
# SPDX-License-Identifier: MIT
# The life of the packages on a system where all they depend on is installed: installed, looked at, started, upgraded
# between writing and reading a file, started as they come, purged. Runs in a room, in a network of its own, without
# systemd.
# usage: life.sh DIRECTORY   which has now/*.deb, later/*.deb (higher versions) and tests/; before.* and after.* come there
set -eu
packages=$1
pid_file=/run/smbdirectd/smbdirectd.pid

step() { printf '  -- %s\n' "$*"; }
fail() {
    printf 'failed: %s\n' "$*"
    exit 1
}

# Every path, and the sums of what is configured. Not what belongs to dpkg, apt, the loader and systemd's tools themselves.
listing() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path "$packages" -o -path /var/lib/dpkg \
        -o -path /var/cache -o -path /var/log/dpkg.log -o -path /var/log/alternatives.log -o -path /run/systemd \) -prune -o -print
    find /etc -type f ! -name ld.so.cache -exec sha256sum {} +
}

gone() { ! pgrep smbdirect >/dev/null || fail "still running: $(pgrep -l smbdirect)"; }

ip link set lo up
printf '#!/bin/sh\nexit 0\n' >/usr/sbin/policy-rc.d # services may be started here
chmod 755 /usr/sbin/policy-rc.d
listing >"$packages/before.files"
cp /etc/passwd "$packages/before.passwd"

step "install"
dpkg -i "$packages"/now/*.deb
apt-get check
[ -z "$(dpkg --audit)" ] || fail "$(dpkg --audit)"
gone
status=0
service smbdirectd status || status=$?
[ $status -eq 3 ] || fail "the installation has started the daemon, or its status is wrong: $status"
enabled=$(find /etc/systemd/system /etc/rc[0-9S].d -name '*smbdirectd*' ! -name 'K*')
[ -z "$enabled" ] || fail "the installation has enabled the daemon: $enabled"
smbdirectd --check-config
systemd-analyze verify --man=no --recursive-errors=no smbdirectd.service smbdirect-exporter.service

step "serve, and upgrade meanwhile"
BETWEEN="
    pid=\$(cat $pid_file)
    dpkg -i $packages/later/*.deb
    [ \"\$(cat $pid_file)\" != \"\$pid\" ] || { echo 'the upgrade has not started the new daemon'; exit 1; }
" "$packages/tests/moves-data"
gone
[ -z "$(dpkg --audit)" ] || fail "$(dpkg --audit)"
cmp /etc/smbdirectd/pool.json /usr/share/doc/smbdirectd/examples/pool.json

step "start as it comes"
service smbdirectd start
service smbdirectd status
smbdirectctl status
service smbdirectd reload

step "purge while it runs"
# shellcheck disable=SC2046  # one word each
dpkg --purge $(dpkg-query -W -f '${Package}\n' '*smbdirect*')
gone
listing >"$packages/after.files"
cp /etc/passwd "$packages/after.passwd"
