#!/usr/bin/env bash
# All faults at random, for so many seconds (default: an hour), each with numbers that were not tried
# before. Stops at the first failure, with the command that shows it again.
#
#   tests/soak.sh 28800
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=${1:-3600}
# What was built is run directly, so that nothing is compiled in between.
binary() {
    cargo test --release --no-run -p logdrive "$@" --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
echo "building" >&2
library=$(binary --lib)
trial=$(binary --test kill)

# Runs a test with variables of its environment; says how to run it again where it fails.
try() {
    local name=$1 program=$2 filter=$3
    shift 3
    printf '%6d s  %s  %s\n' "$SECONDS" "$name" "$*" >&2
    if ! env "$@" "$program" "$filter" --nocapture >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        printf 'failed after %d s; again: %s %s %s --nocapture\n' "$SECONDS" "$*" "$program" "$filter" >&2
        exit 1
    fi
}

number() { od -An -N4 -tu4 /dev/urandom | tr -d ' '; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
SECONDS=0 rounds=0
while ((SECONDS < wanted)); do
    rounds=$((rounds + 1))
    case $((RANDOM % 5)) in
    0) try "one broker, growth" "$trial" soak "LOGDRIVE_SOAK=240" "LOGDRIVE_SEED=$(number)" ;;
    1) try "kills and stops" "$trial" whoever_uses "LOGDRIVE_KILLS=40" "LOGDRIVE_SEED=$(number)" ;;
    2) try "simulations" "$library" simulation::no_promise "LOGDRIVE_SIMULATIONS=2000" "LOGDRIVE_FROM=$(number)" ;;
    3) try "damage at rest" "$library" storage::tests::rot "LOGDRIVE_ROT=5000" "LOGDRIVE_ROT_SEED=$(number)" ;;
    4) try "calls of the disk that fail, power cuts" "$library" storage::tests::power_cuts "LOGDRIVE_CUTS=all" ;;
    esac
done
printf 'all well: %d rounds in %d s\n' "$rounds" "$SECONDS" >&2
