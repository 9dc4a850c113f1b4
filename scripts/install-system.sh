#!/usr/bin/env bash
# What the tests want of a Debian system, installed if it isn't there. Not root, or no apt: says what is missing and goes
# on; the tests that want it are then skipped. Always ends well.
set -u

# program, package, what for
wanted='
/usr/bin/chromium chromium the-window,-driven-by-Playwright
/usr/bin/gcc gcc the-comparison-with-the-real-CPU
/usr/bin/make make the-comparison-with-the-real-CPU
/usr/include/stdlib.h libc6-dev the-comparison-with-the-real-CPU
/usr/bin/cpio cpio the-initrd-of-Linux-guests
/usr/bin/gzip gzip the-initrd-of-Linux-guests
'

missing=()
while read -r path package purpose; do
  [ -z "$path" ] && continue
  if [ -e "$path" ]; then
    printf 'have     %-10s %s\n' "$package" "(${purpose//-/ })"
  else
    printf 'missing  %-10s %s\n' "$package" "(${purpose//-/ })"
    missing+=("$package")
  fi
done <<<"$wanted"

[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "There is no apt-get here. Install by hand: ${missing[*]}"
elif [ "$(id -u)" -ne 0 ]; then
  echo "Only root may install them: sudo apt-get install ${missing[*]}"
else
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null || echo 'apt-get update failed; going on with the lists that are there'
  for package in "${missing[@]}"; do
    echo "installing $package"
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null || echo "skipped: $package can't be installed"
  done
fi
exit 0
