#!/usr/bin/env bash
# Fetches the guests that the tests and benchmarks boot, from Debian's packages, into .cache/guests. Needs apt and
# dpkg, and no root unless a package of architecture i386 is wanted where i386 isn't known yet.
#
#   scripts/guests.sh [cloud] [686] [installer] [memtest] [initrd]     (all of them by default)
#
# What is there already is not fetched again. It leaves:
#   vmlinuz-cloud                    64-bit kernel (linux-image-cloud-amd64)
#   vmlinuz-686                      32-bit kernel (linux-image-686)
#   initrd-amd64.gz initrd-i386.gz   busybox with our /init
#   installer/vmlinuz, installer/initrd.gz
#   memtest64.bin memtest32.bin
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache/guests
mkdir -p "$cache"
cd "$cache"

updated=
update() {
  [ -n "$updated" ] && return
  updated=yes
  apt-get update -qq >/dev/null 2>&1 || echo 'guests.sh: apt-get update failed; going on with the lists that are there' >&2
}

# Lets apt know of i386 packages.
i386() {
  dpkg --print-foreign-architectures | grep -qx i386 && return
  dpkg --add-architecture i386 || {
    echo 'guests.sh: i386 packages need `dpkg --add-architecture i386` (as root) first' >&2
    return 1
  }
  updated=
  update
}

# fetch PACKAGE[:ARCH] FOLDER: unpacks a package into a folder of the cache.
fetch() {
  local package=$1 folder=$2 scratch
  [ -e "$folder/.complete" ] && return
  rm -rf "$folder"
  scratch=$(mktemp -d "$cache/fetch.XXXXXX")
  (cd "$scratch" && { apt-get download -qq "$package" 2>/dev/null || { update && apt-get download -qq "$package"; }; }) || {
    rm -rf "$scratch"
    echo "guests.sh: the package $package cannot be downloaded" >&2
    return 1
  }
  mkdir -p "$folder"
  dpkg -x "$scratch"/*.deb "$folder"
  rm -rf "$scratch"
  touch "$folder/.complete"
}

# The package that a meta package such as linux-image-cloud-amd64 stands for.
newest_kernel() {
  apt-cache depends "$1" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -1
}

# kernel META FOLDER NAME
kernel() {
  [ -e "$3" ] && return
  local package
  package=$(newest_kernel "$1")
  [ -n "$package" ] || { update; package=$(newest_kernel "$1"); }
  [ -n "$package" ] || { echo "guests.sh: apt knows no $1" >&2; return 1; }
  case $1 in *:i386) package=${package%:i386}:i386 ;; esac
  fetch "$package" "$2"
  cp "$2"/boot/vmlinuz-* "$3"
}

# initrd ARCH: an initrd of busybox and this /init.
initrd() {
  [ -e "initrd-$1.gz" ] && [ "initrd-$1.gz" -nt "$root/scripts/guests.sh" ] && return
  fetch "busybox-static:$1" "busybox-$1"
  local tree=$cache/initrd-$1
  rm -rf "$tree"
  mkdir -p "$tree"/{bin,dev,proc,sys,tmp,etc}
  cp "busybox-$1/bin/busybox" "$tree/bin/busybox"
  ln -s busybox "$tree/bin/sh"
  cat >"$tree/init" <<'INIT'
#!/bin/sh
# First process. The kernel's command line says what to do after BOOT-OK: vitrine.poweroff turns the machine off,
# vitrine.run=COMMAND (underscores for spaces) runs a command; otherwise there is a shell on the console.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox --install -s /bin
# There is no init to ask: the shell's verbs do it themselves.
for verb in poweroff reboot halt; do echo "$verb() { busybox $verb -f; }"; done >/etc/shrc
export ENV=/etc/shrc
echo BOOT-OK
read -r line </proc/cmdline
for word in $line; do
  case $word in
    vitrine.poweroff) busybox poweroff -f ;;
    vitrine.run=*) sh -c "$(echo "${word#vitrine.run=}" | tr _ ' ')" ;;
  esac
done
export HOME=/ PS1='guest# ' TERM=vt100
while true; do
  setsid cttyhack sh
done
INIT
  chmod +x "$tree/init"
  (cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner 0:0 | gzip -9n) >"initrd-$1.gz.part"
  mv "initrd-$1.gz.part" "initrd-$1.gz"
  rm -rf "$tree"
}

[ $# -gt 0 ] || set -- cloud 686 installer memtest initrd
for wanted in "$@"; do
  case $wanted in
    cloud) kernel linux-image-cloud-amd64 cloud vmlinuz-cloud ;;
    686) [ -e vmlinuz-686 ] || { i386 && kernel linux-image-686:i386 686 vmlinuz-686; } ;;
    installer)
      fetch debian-installer-12-netboot-amd64 debian-installer
      mkdir -p installer
      for file in linux:vmlinuz initrd.gz:initrd.gz; do
        [ -e "installer/${file#*:}" ] ||
          cp "$(find debian-installer -path '*/text/*' -name "${file%:*}" | head -1)" "installer/${file#*:}"
      done
      ;;
    memtest)
      fetch memtest86+ memtest86+
      for bits in 64 32; do
        [ -e memtest$bits.bin ] || cp "$(find memtest86+ -name "*$([ $bits = 64 ] && echo x64 || echo ia32).bin" | head -1)" memtest$bits.bin
      done
      ;;
    initrd)
      initrd amd64
      i386 && initrd i386
      ;;
    *)
      echo "guests.sh: no guest is called $wanted (cloud, 686, installer, memtest, initrd)" >&2
      exit 2
      ;;
  esac
done
