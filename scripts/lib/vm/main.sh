#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The guest's first process, once the host's tree is its root: runs the job, hands its output and its exit status to
# the host through the directory shared for this run, and ends the machine.
# shellcheck shell=dash

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
busybox=/bin/busybox
run=/run/vm

if [ -e $run/terminal ]; then
  modprobe virtio_console
  waited=0
  until (: </dev/hvc0) 2>/dev/null || [ $waited -ge 50 ]; do
    $busybox sleep 0.1
    waited=$((waited + 1))
  done
  $busybox setsid -c $run/job </dev/hvc0 >/dev/hvc0 2>&1
  echo $? >$run/status
  $busybox poweroff -f
fi

# A pipe, as programs expect one: neither the shared file itself (">/dev/stdout" would empty it) nor a device.
$busybox mkfifo /run/vm-pipe
$busybox cat </run/vm-pipe >>$run/output &
relay=$!
$busybox setsid $run/job </dev/null >/run/vm-pipe 2>&1
status=$?

# Whatever the job left running would keep the pipe open.
for directory in /proc/[0-9]*; do
  case ${directory#/proc/} in 1 | "$relay") ;; *) kill -9 "${directory#/proc/}" 2>/dev/null ;; esac
done
# Bounded: a process that hangs in the kernel cannot be killed.
waited=0
while [ $waited -lt 50 ] && read -r stat <"/proc/$relay/stat" && [ "${stat#*) Z}" = "$stat" ]; do
  $busybox sleep 0.1
  waited=$((waited + 1))
done 2>/dev/null
echo "$status" >$run/status.new
$busybox mv $run/status.new $run/status
$busybox poweroff -f
