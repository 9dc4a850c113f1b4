#!/usr/bin/env bash
# Builds QEMU from Debian's source package with its NVMM accelerator, against our nvmm.h and libnvmm.so, into
# .cache/peers. Nothing of it is changed but the one line that looks for the library on NetBSD hosts only.
# What is there already is not built again; `npm run campaign:qemu` then runs guests on it (qemu.ts).
#
# It leaves nvmm/ (our library, installed), qemu-build/qemu-system-x86_64, and firmware/ (from Debian's packages).
# Needs apt with its sources in the deb822 form, dpkg-dev, gcc, make, meson, ninja, pkg-config, and the headers of
# glib, pixman and libfdt; as root it installs those. Takes some minutes, and 1.5 GB of disk.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
peers=$root/.cache/peers
mkdir -p "$peers"
cd "$peers"
peers=$(pwd -P)
# A Python of somebody's own in front of Debian's would not find Debian's meson.
export PATH=/usr/bin:/bin:$PATH

say() { echo "qemu.sh: $*" >&2; }

tools() {
  local packages='dpkg-dev gcc make meson ninja-build pkg-config nasm libglib2.0-dev libpixman-1-dev libfdt-dev'
  # shellcheck disable=SC2086
  dpkg -s $packages >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] || { say "install these first: $packages"; exit 1; }
  apt-get update -qq >/dev/null || say 'apt-get update failed; going on with the lists that are there'
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

# The source package of the release that apt is configured for. Its sources are derived from the binary ones, in
# lists of our own, so that the system's stay as they are.
fetch_source() {
  [ -e qemu-source/.complete ] && return
  say 'fetching the source package'
  mkdir -p apt/parts apt/lists/partial
  local list
  for list in /etc/apt/sources.list.d/*.sources; do
    sed 's/^Types: deb$/Types: deb-src/' "$list" >"apt/parts/$(basename "$list")"
  done
  local options=(-qq -o "Dir::Etc::SourceList=$peers/apt/none" -o "Dir::Etc::SourceParts=$peers/apt/parts"
    -o "Dir::State::Lists=$peers/apt/lists" -o APT::Sandbox::User=root)
  touch apt/none
  apt-get "${options[@]}" update || say 'apt-get update failed; going on with what it got'
  rm -rf qemu-source qemu_*
  apt-get "${options[@]}" source --download-only qemu
  dpkg-source --no-check -x qemu_*.dsc qemu-source >/dev/null
  touch qemu-source/.complete
}

# The one change. Older releases call the host system targetos, newer ones host_os.
patch_source() {
  grep -q "'netbsd', 'linux'\]" qemu-source/meson.build && return
  sed -i "/== 'netbsd'/{N;/find_library('nvmm'/s/\(targetos\|host_os\) == 'netbsd'/\1 in ['netbsd', 'linux']/}" \
    qemu-source/meson.build
  grep -q "'netbsd', 'linux'\]" qemu-source/meson.build ||
    { say 'the condition around the library was not found in meson.build'; exit 1; }
}

build() {
  # The compiler and ninja know what an older header or library means.
  make -s -C "$root/native/libnvmm-linux" install BUILD="$peers/libnvmm" PREFIX="$peers/nvmm"
  mkdir -p qemu-build
  cd qemu-build
  if [ ! -e build.ninja ]; then
    say 'configuring'
    ../qemu-source/configure --target-list=x86_64-softmmu --without-default-features --enable-nvmm \
      --enable-fdt=system --enable-trace-backends=log --disable-tools --disable-docs --disable-install-blobs \
      --disable-tcg --disable-kvm --extra-cflags="-I$peers/nvmm/include" \
      --extra-ldflags="-L$peers/nvmm/lib -Wl,-rpath,$peers/nvmm/lib" >configure.log 2>&1 ||
      { tail -20 configure.log >&2; exit 1; }
  fi
  say 'building'
  nice -n 5 ninja qemu-system-x86_64 >ninja.log 2>&1 || { tail -40 ninja.log >&2; exit 1; }
  cd ..
}

# qboot and the option ROMs, SeaBIOS and the VGA BIOS, and GRUB's rescue CD: as Debian builds them.
fetch_firmware() {
  [ -e firmware/grub-rescue-cdrom.iso ] && return
  say 'fetching the firmware'
  rm -rf firmware scratch
  mkdir firmware scratch
  (cd scratch && apt-get download -qq -o APT::Sandbox::User=root qemu-system-data seabios grub-rescue-pc)
  local package
  for package in scratch/*.deb; do dpkg -x "$package" scratch/root; done
  cp -P scratch/root/usr/share/seabios/*.bin firmware/
  cp -P scratch/root/usr/share/qemu/*.{rom,bin} firmware/
  cp scratch/root/usr/lib/grub-rescue/grub-rescue-cdrom.iso firmware/
  rm -rf scratch
}

tools
fetch_source
patch_source
build
fetch_firmware
echo "$peers/qemu-build/qemu-system-x86_64"
