# `sw`: links to the programs of all packages of the system.
{ pkgs, config }:
pkgs.run "system-path"
  {
    preferLocalBuild = true;
    packages = config.environment.systemPackages;
  }
  ''
  mkdir -p "$out/bin"
  for package in $packages; do
    for program in "$package"/bin/*; do
      [ ! -e "$program" ] || ln -sf "$program" "$out/bin/''${program##*/}"
    done
  done
''
