#!/bin/sh
# SPDX-License-Identifier: MIT
# The guest's first process in place of main.sh, when its root is another Debian's: systemd, as it boots that Debian, and
# the job as a unit of it. As in main.sh the job's output and exit status go to the directory shared for this run.
mkdir -p /run/systemd/system
cat >/run/systemd/system/smbdirectd-vm.service <<'UNIT'
[Unit]
Description=The job of scripts/vm
Wants=basic.target
After=basic.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardInput=null
StandardOutput=append:/run/vm/output
StandardError=append:/run/vm/output
ExecStart=/run/vm/job
ExecStopPost=/bin/sh -c 'case $$EXIT_CODE in exited) echo $$EXIT_STATUS ;; *) echo 128 ;; esac >/run/vm/status.new'
ExecStopPost=/bin/mv /run/vm/status.new /run/vm/status
ExecStopPost=/bin/systemctl poweroff -ff
UNIT
exec /lib/systemd/systemd --system --unit=smbdirectd-vm.service
