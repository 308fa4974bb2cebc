#!/bin/busybox sh
# The first process of the small guest: brings up devices and the network, does what the seed says, serves /www, and
# leaves a shell on the serial console.
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
while read -r module; do
    insmod "/lib/modules/$module.ko" 2>/dev/null
done </lib/modules/order
mkdir -p /seed /www /run /tmp /dev/pts
mount -t devpts pts /dev/pts

for device in /sys/block/vd* /sys/block/sr*; do
    [ -e "$device" ] || continue
    mount -t iso9660 -o ro "/dev/${device##*/}" /seed 2>/dev/null || continue
    [ -e /seed/meta-data ] && break
    umount /seed
done

field() { sed -n "s/^ *$1: *\[\{0,1\}\"\{0,1\}\([^],\"]*\).*/\1/p" "$2" 2>/dev/null | head -n 1; }

hostname "$(field local-hostname /seed/meta-data)" 2>/dev/null
ifconfig lo 127.0.0.1 up
address=$(field addresses /seed/network-config)
gateway=$(field via /seed/network-config)
nameserver=$(sed -n '/nameservers:/,$ s/^ *addresses: *\[\(.*\)\]/\1/p' /seed/network-config 2>/dev/null | tr -d '", ' | head -n 1)
ip link set eth0 up
if grep -q 'dhcp4: *true' /seed/network-config 2>/dev/null || [ -z "$address" ]; then
    udhcpc -i eth0 -q -n -t 20 -T 1 -s /etc/udhcpc.sh >/dev/null
else
    ip address add "$address" dev eth0
    [ -n "$gateway" ] && ip route add default via "$gateway"
    [ -n "$nameserver" ] && echo "nameserver $nameserver" >/etc/resolv.conf
fi

acpid -l /run/acpid.log

if [ "$(head -c 2 /seed/user-data 2>/dev/null)" = '#!' ]; then
    cp /seed/user-data /run/user-data
    chmod 700 /run/user-data
    (cd / && /run/user-data) || echo "user data ended with code $?"
fi
httpd -p 80 -h /www
echo "READY $(hostname)"

while :; do
    setsid cttyhack sh -l
done
