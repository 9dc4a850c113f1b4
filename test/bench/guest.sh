#!/usr/bin/env bash
# Builds the benchmark's guests from test/bench/guest into .cache/bench/guests: needs gcc (which compiles for i386 too) and
# cpio. What is newer than its sources stays.
#
#   bench-amd64 bench-i386             static programs for Linux
#   bare-amd64.elf bare-i386.elf       multiboot kernels with nothing but the benchmark
#   initrd-amd64.gz initrd-i386.gz     initial RAM disks whose /init is the program
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
source=$root/test/bench/guest
cache=$root/.cache/bench/guests
mkdir -p "$cache"

# A stamp that is newer than everything it was built from.
stamp=$cache/.built
if [ -e "$stamp" ] && [ -z "$(find "$source" "$0" -newer "$stamp" -type f)" ]; then exit; fi

common='-O2 -std=gnu11 -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-math-errno -fno-stack-protector
  -fno-pic -fno-pie -fcf-protection=none -fno-asynchronous-unwind-tables -fno-strict-aliasing'
plain='-fno-tree-vectorize -fno-tree-loop-distribute-patterns'
link='-nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments'

build() {
  local arch=$1 work
  local -n machine=$2
  work=$(mktemp -d "$cache/build.XXXXXX")
  compile() { gcc $common "${machine[@]}" "$@"; }
  for name in main integer memory $([ "$arch" = i386 ] && echo divide); do compile $plain -c "$source/$name.c" -o "$work/$name.o"; done
  # Where the ABI passes doubles in SSE registers, none crosses a function that is compiled for the x87.
  compile -mfpmath=sse -DRUN=run_nbody_sse -c "$source/float.c" -o "$work/sse.o"
  compile -mfpmath=387 -DRUN=run_nbody_x87 -c "$source/float.c" -o "$work/x87.o"
  local rows=("$work"/*.o)
  compile "$source/start.S" "$source/linux.c" "${rows[@]}" $link -o "$work/bench"
  compile -DENTRY=$([ "$arch" = amd64 ] && echo 8 || echo 4) "$source/boot.S" "$source/bare.c" "${rows[@]}" \
    $link -Wl,-T,"$source/bare.ld" -o "$work/bare.elf"
  # Multiboot loaders want a 32-bit file, whatever runs in the end.
  objcopy -O elf32-i386 "$work/bare.elf"
  mkdir -p "$work/tree"/{dev,proc}
  cp "$work/bench" "$work/tree/init"
  strip "$work/tree/init"
  (cd "$work/tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner 0:0 | gzip -9n) >"$work/initrd.gz"
  mv "$work/bench" "$cache/bench-$arch"
  mv "$work/bare.elf" "$cache/bare-$arch.elf"
  mv "$work/initrd.gz" "$cache/initrd-$arch.gz"
  rm -rf "$work"
}

amd64=(-m64 -mno-red-zone)
i386=(-m32 -march=pentium4 -mtune=generic -msse2)
build amd64 amd64
build i386 i386
touch "$stamp"
