#!/usr/bin/env bash
# `npm test`: everything, from a fresh clone. What is missing of the system is installed where that is possible, each
# thing said aloud; what can't be had is skipped, counted, and named. The last line is the result.
set -u
cd "$(dirname "$0")/.."
export CI=${CI:-true}

failed=()
step() {
  local name=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    printf -- '-- %s: %d s\n' "$name" $((SECONDS - began))
  else
    failed+=("$name")
    printf -- '-- %s: FAILED\n' "$name"
  fi
}

rm -rf .cache/test
step 'system packages' bash scripts/install-system.sh
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  step 'npm ci' npm ci --no-audit --no-fund --loglevel=error
fi
step 'build' npm run --silent build -- --logLevel=warn
step 'types' npx tsc -p tsconfig.json --noEmit
step 'lint' npx eslint .
step 'format' npx prettier --check --log-level=warn .
printf '\n== guests\n'
bash scripts/guests.sh cloud initrd || echo 'The tests that boot them are skipped.'
step 'tests: vitest' npx vitest run --reporter=default --reporter=./test/reporter.ts
if command -v "${CHROMIUM:-/usr/bin/chromium}" >/dev/null; then
  step 'tests: playwright' npx playwright test
else
  printf '\n== tests: playwright\nskipped: chromium is not installed\n'
  mkdir -p .cache/test
  printf '{"suites":[{"file":"test/e2e","specs":[{"title":"all","tests":[{"status":"skipped","annotations":[{"type":"skip","description":"chromium is not installed"}]}]}]}]}' \
    >.cache/test/playwright.json
fi

node scripts/test-summary.mjs ${failed[@]+"${failed[@]}"}
