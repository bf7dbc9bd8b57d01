#!/bin/bash
# Makes the golden files beside it from real Nix. Run as root (it hides the machine's /nix and /srv
# behind empty ones, for itself alone):  ./make.sh VERSION=BIN-FOLDER…
# such as  ./make.sh 2.8=/usr/bin 2.26=… 2.34=…   What all versions make alike goes to `all/`, the
# rest to `<version>/`.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

if [ "${1-}" != --inside ]; then
    work=$(mktemp -d)
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
    mkdir "$work/nix" "$work/srv"
    for pair in "$@"; do
        unshare --mount -- "$0" --inside "$work" "${pair%%=*}" "${pair#*=}"
        chmod -R u+w "$work"
        rm -rf "$work"/{nix,srv}
        mkdir "$work"/{nix,srv}
    done
    rm -rf "$here/all"
    mkdir "$here/all"
    first=$here/${1%%=*}
    for file in "$first"/*; do
        name=$(basename "$file")
        for pair in "$@"; do cmp -s "$file" "$here/${pair%%=*}/$name" || continue 2; done
        cp "$file" "$here/all/$name"
        for pair in "$@"; do rm "$here/${pair%%=*}/$name"; done
    done
    exit
fi

work=$2 version=$3 bin=$4 out=$here/$3
mkdir -p /nix "$out"
mount --make-rprivate /
mount --bind "$work/srv" /srv
mount --bind "$work/nix" /nix
export HOME=/srv/home PATH=$bin:$PATH NIX_REMOTE='' NIX_CONF_DIR=/srv/conf TZ=UTC
export GIT_AUTHOR_NAME=larder GIT_AUTHOR_EMAIL=larder@example.org GIT_AUTHOR_DATE=2024-01-02T03:04:05Z
export GIT_COMMITTER_NAME=larder GIT_COMMITTER_EMAIL=larder@example.org GIT_COMMITTER_DATE=2024-01-02T03:04:05Z
mkdir -p "$HOME" /srv/conf
cat > /srv/conf/nix.conf <<'CONF'
experimental-features = nix-command flakes
build-users-group =
sandbox = false
substituters =
CONF
cd /srv
nix --version > "$out/nix-version"

# A key, once: the other versions sign with the same.
key=$here/golden-1.secret
if ! [ -e "$key" ]; then
    nix-store --generate-binary-cache-key golden-1 "$key" "$here/golden-1.public"
fi

# A tree with everything a NAR can hold.
mkdir -p tree/empty-dir tree/nested/a/b/c tree/odd
printf '#!/bin/sh\necho hello\n' > tree/run; chmod 755 tree/run
printf 'x' > tree/one-byte; printf '12345678' > tree/eight-bytes; : > tree/empty
head -c 5000 /dev/zero > tree/large
printf 'deep\n' > tree/nested/a/b/c/file
ln -s nested/a tree/link; ln -s /nowhere/at/all tree/dangling
for name in 'a b' 'ünïcode' 'quote"' 'back\slash' $'new\nline' -dash .hidden '~tilde' A a B _ 0; do
    printf 'odd\n' > "tree/odd/$name"
done
nix-store --dump tree > "$out/tree.nar"
tree=$(nix-store --add tree)
nix store dump-path "$tree" | cmp - "$out/tree.nar"

# Builds with references, to themselves too; their log is the internal-json.
cat > default.nix <<'NIX'
let
  build = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "set -e; PATH=/bin:/usr/bin; ${script}" ];
  };
in rec {
  base = build "golden-base" "echo base > $out";
  app = build "golden-app-1.0" ''
    echo building; echo "two words" >&2; mkdir -p $out/bin
    echo "${base} $out" > $out/bin/app; chmod +x $out/bin/app
  '';
  broken = build "golden-broken" "echo about to fail; exit 3";
  text = builtins.toFile "golden-text" "refers to ${builtins.toFile "golden-other" "nothing"}";
}
NIX
nix-build --no-out-link -A app --log-format internal-json -v 2> "$out/build.jsonl" > /dev/null
nix-build --no-out-link -A broken --log-format internal-json 2> "$out/broken.jsonl" > /dev/null && exit 1
app=$(nix-build --no-out-link -A app 2> /dev/null)
text=$(nix-instantiate --eval --read-write-mode --json -A text | tr -d '"')
printf 'flat\n' > flat
flat=$(nix-store --add-fixed sha256 flat)
flat1=$(nix-store --add-fixed sha1 flat)
nar1=$(nix-store --recursive --add-fixed sha512 flat)

# A cache of them, signed, with listings; and one path of it unsigned.
drv=$(nix-instantiate -A app 2> /dev/null)
cache="file:///srv/cache?compression=none&write-nar-listing=true&secret-key=$key"
nix copy --to "$cache" "$tree" "$app" "$text" "$flat" "$flat1" "$nar1" 2> /dev/null
nix copy --derivation --to "$cache" "$drv" 2> /dev/null
nix copy --to 'file:///srv/unsigned?compression=xz' "$app" 2> /dev/null
take() { cp "/srv/$1/$(basename "$2" | cut -c1-32).$3" "$out/$4.$3"; }
take cache "$tree" ls tree; take cache "$app" ls app; take cache "$flat" ls flat
take cache "$tree" narinfo tree; take cache "$app" narinfo app; take cache "$text" narinfo text
take cache "$flat" narinfo flat; take cache "$flat1" narinfo flat-sha1
take cache "$nar1" narinfo recursive-sha512; take cache "$drv" narinfo drv
take unsigned "$app" narinfo unsigned
nix-store --dump "$app" > "$out/app.nar"
cp cache/nix-cache-info "$out/nix-cache-info"
nix-store --query --references "$drv" "$app" "$text" | sort -u > "$out/sorted-paths"

# Derivations as nixpkgs writes them, which are not built.
cp -r "$here/shapes.nix" "$here/shapes" .
nix-instantiate --eval --json --strict -E 'builtins.mapAttrs (_: made: made.drvPath) (import ./shapes.nix)' \
    | tr -d '{}"' | tr , '\n' | sed '$a\' > shapes.list
nix-instantiate shapes.nix > /dev/null 2>&1
while IFS=: read -r shape path; do cp "$path" "$out/$shape.drv"; done < shapes.list
chmod u+w "$out"/*.drv

# A flake whose inputs follow each other, locked; then locked again after an input moved.
flake() { mkdir -p "$1"; printf '{ inputs = { %s }; outputs = _: { }; }\n' "$2" > "$1/flake.nix"; git -C "$1" init -q -b main; git -C "$1" add -A; git -C "$1" commit -qm "$1"; }
flake nixpkgs ''
flake home 'nixpkgs.url = "git+file:///srv/nixpkgs"; inner.url = "git+file:///srv/inner"; inner.inputs.nixpkgs.follows = "nixpkgs";'
flake inner 'nixpkgs.url = "git+file:///srv/nixpkgs";'
mkdir plain; echo data > plain/data; touch -d @1700000000 plain/data plain
flake fleet 'nixpkgs.url = "git+file:///srv/nixpkgs?ref=main"; home.url = "git+file:///srv/home"; home.inputs.nixpkgs.follows = "nixpkgs";
  aliased.follows = "home/inner/nixpkgs"; own.url = "git+file:///srv/inner"; me.url = "git+file:///srv/inner"; me.inputs.nixpkgs.follows = "";
  plain.url = "path:/srv/plain"; plain.flake = false;'
git config --global safe.directory '*'
nix flake lock /srv/fleet 2> /dev/null
cp fleet/flake.lock "$out/flake.lock"
git -C fleet add flake.lock
echo moved > nixpkgs/moved; git -C nixpkgs add -A; git -C nixpkgs commit -qm moved
if [ "$version" = 2.8 ]; then nix flake lock --update-input nixpkgs /srv/fleet; else nix flake update nixpkgs --flake /srv/fleet; fi 2> /dev/null
cp fleet/flake.lock "$out/flake-moved.lock"
