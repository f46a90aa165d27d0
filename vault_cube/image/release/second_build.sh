#!/bin/sh
# Run a command with another host name, another umask, on one CPU, and on a file system that records no access times.
# usage: second_build.sh FOLDER CPU COMMAND...
# FOLDER: a folder on that file system. Runs in mount and uts namespaces of its own, so this machine does not change.
set -eu

folder=$1 cpu=$2
shift 2

mount -o remount,bind,noatime "$(findmnt -n -o TARGET --target "$folder")"
hostname elsewhere
umask 077
exec taskset --cpu-list "$cpu" "$@"
