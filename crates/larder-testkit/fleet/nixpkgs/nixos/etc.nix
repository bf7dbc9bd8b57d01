# `etc`: a file for every entry of environment.etc. As in NixOS, it is never substituted.
{ pkgs, config }:
let
  entries = config.environment.etc;
  line = name: "${name} ${builtins.toFile (builtins.replaceStrings [ "/" ] [ "-" ] "etc-${name}") entries.${name}.text}";
in
pkgs.run "etc"
  {
    preferLocalBuild = true;
    allowSubstitutes = false;
    files = builtins.concatStringsSep "\n" (map line (builtins.attrNames entries));
  }
  ''
    mkdir -p "$out/etc"
    echo "$files" | while read -r name file; do
      [ -n "$name" ] || continue
      case "$name" in */*) mkdir -p "$out/etc/''${name%/*}" ;; esac
      ln -s "$file" "$out/etc/$name"
    done
  ''
