# The system itself, with the files NixOS has there.
{ pkgs, config }:
let
  script = ./switch-to-configuration.sh;
in
pkgs.run "nixos-system-${config.networking.hostName}-${config.system.nixos.version}"
  {
    preferLocalBuild = true;
    allowSubstitutes = false;
    inherit (pkgs) busybox linux system;
    inherit (config.system) path extraDependencies;
    inherit (config.system.build) etc;
    version = config.system.nixos.version;
    script = builtins.path {
      path = script;
      name = "switch-to-configuration.sh";
    };
  }
  ''
    mkdir -p "$out/bin"
    ln -s "$linux/bzImage" "$out/kernel"
    ln -s "$linux" "$out/kernel-modules"
    tar -C "$busybox" -cf - bin | gzip -n > "$out/initrd"
    ln -s "$etc/etc" "$out/etc"
    ln -s "$path" "$out/sw"
    printf '%s' "$version" > "$out/nixos-version"
    printf '%s' "$system" > "$out/system"
    printf '%s' "init=$out/init" > "$out/kernel-params"
    echo "$extraDependencies" > "$out/extra-dependencies"
    { echo "#!$busybox/bin/sh"; echo "system=$out"; echo "PATH=$busybox/bin"; cat "$script"; } \
      > "$out/bin/switch-to-configuration"
    printf '#!%s\nln -sfn %s /run/current-system\n' "$busybox/bin/sh" "$out" > "$out/activate"
    printf '#!%s\n%s\nln -sfn %s /run/booted-system\n' "$busybox/bin/sh" "$out/activate" "$out" > "$out/init"
    chmod 755 "$out/bin/switch-to-configuration" "$out/activate" "$out/init"
  ''
