#!/usr/bin/env bash
# Makes the texts beside it anew: what each of the three Nix versions answers to
# `nix-store --realise --dry-run`. Needs `./dev setup`.
set -euo pipefail
here="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
cache="$here/../../../../.cache"

cat_expression() {
  cat <<'NIX'
let
  make = name: script: derivation {
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-euc" script ];
  };
  library = make "library-1.0" "echo library > $out";
  big = make "big-2.0" "s=0123456789abcdef; i=0; while [ $i -lt 17 ]; do s=$s$s; i=$((i+1)); done; echo $s > $out";
in {
  library = library;
  app = make "app-1.0" "echo ${library} ${big} > $out";
  half = make "half-1.0" "echo ${library} > $out";
}
NIX
}

for version in 2.8 2.26 2.34; do
  work="$(mktemp -d)"
  mkdir -p "$work/conf" "$here/$version"
  cat >"$work/conf/nix.conf" <<CONF
experimental-features = nix-command flakes
build-users-group =
substituters =
require-sigs = false
sandbox-paths = /bin/sh=$cache/tools/busybox
CONF
  export NIX_CONF_DIR="$work/conf" HOME="$work" NIX_USER_CONF_FILES=/dev/null
  bin="$cache/nix/$version/bin"
  cat_expression >"$work/default.nix"
  derivation() { "$bin/nix-instantiate" --store "$1" "$work/default.nix" -A "$2" 2>/dev/null; }
  # The answer, in a store.
  ask() {
    local store="$1" name="$2"
    shift 2
    "$bin/nix-store" --store "$store" --realise --dry-run "$@" 2>"$here/$version/$name.txt" || true
  }

  ask "$work/new" one-to-build "$(derivation "$work/new" library)"
  ask "$work/new" three-to-build "$(derivation "$work/new" app)"
  # A cache with one of the two that `half` is made of.
  app="$("$bin/nix-store" --store "$work/full" --realise "$(derivation "$work/full" app)" 2>/dev/null)"
  "$bin/nix" --store "$work/full" copy --to "file://$work/cache?compression=none" "$app" 2>/dev/null
  echo "substituters = file://$work/cache" >>"$work/conf/nix.conf"
  ask "$work/new" three-to-fetch "$(derivation "$work/new" app)"
  ask "$work/new" one-of-each "$(derivation "$work/new" half)"
  ask "$work/full" nothing "$(derivation "$work/full" app)"
  ask "$work/new" unknown /nix/store/00000000000000000000000000000000-gone
  chmod -R u+w "$work"
  rm -rf "$work"
done
