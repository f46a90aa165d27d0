#!/bin/sh
# Make a bridge with two tap devices in a new network namespace, and run QEMU there.
# usage: network.sh BRIDGE GUEST_TAP USER_TAP ADDRESSES COMMAND...
# ADDRESSES: addresses of the bridge, separated by spaces. The kernel removes the namespace and its devices when QEMU exits.
set -eu

bridge=$1 guest=$2 user=$3 addresses=$4
shift 4

ip link add "$bridge" type bridge
for tap in "$guest" "$user"; do
  ip tuntap add "$tap" mode tap
  ip link set "$tap" master "$bridge"
done
for device in lo "$bridge" "$guest" "$user"; do
  ip link set "$device" up
done
for address in $addresses; do
  ip address add "$address" dev "$bridge"
done
exec "$@"
