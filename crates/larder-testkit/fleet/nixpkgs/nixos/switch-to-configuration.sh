# Takes NixOS' arguments and keeps its exit codes. What it was called with is appended to
# /run/larder-sample/calls ("ACTION SYSTEM" a line); /run/larder-sample/exit-code, when it is there,
# says how the next calls end: 1 changes nothing, 2 to 4 and 100 activate and then report it.
set -eu
action="${1:-}"
state=/run/larder-sample
case "$action" in
switch | boot | test | dry-activate) ;;
*)
  echo "Usage: ${0##*/} [switch|boot|test|dry-activate]" >&2
  exit 1
  ;;
esac
mkdir -p "$state"
echo "$action $system" >> "$state/calls"
code=0
[ ! -e "$state/exit-code" ] || code="$(cat "$state/exit-code")"
[ "$code" != 1 ] || { echo "Could not acquire lock" >&2; exit 1; }
case "$action" in switch | boot) ln -sfn "$system" "$state/boot-default" ;; esac
case "$action" in
switch | test)
  echo "activating the configuration..." >&2
  ln -sfn "$system" /run/current-system
  ;;
dry-activate) echo "would activate $system" >&2 ;;
esac
[ "$code" != 4 ] || echo "warning: the following units failed: sample.service" >&2
exit "$code"
