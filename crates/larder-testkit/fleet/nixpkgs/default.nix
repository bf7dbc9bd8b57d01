# Every package of packages.json, by its name. The builder is a static busybox of this repository, so
# that it works in Nix's sandbox on any machine.
{ system }:
let
  manifest = builtins.fromJSON (builtins.readFile ./packages.json);

  bootstrap = builtins.path {
    path = ./bootstrap;
    name = "bootstrap";
  };

  # A derivation which runs a script with busybox's commands. The path given to `builtins.path` has a
  # name of its own, so only a change of its content makes another derivation.
  run =
    name: attributes: script:
    derivation (
      {
        inherit name system;
        builder = "${bootstrap}/busybox";
        args = [
          "sh"
          "-euc"
          ''
            export PATH="$NIX_BUILD_TOP/.commands"
            "$builder" mkdir -p "$PATH"
            for command in mkdir cp ln chmod cat rm tar gzip; do "$builder" ln -s "$builder" "$PATH/$command"; done
            ${script}
          ''
        ];
      }
      // attributes
    );

  # The names of all libraries a package loads, directly or not.
  libraries =
    name:
    map (found: found.key) (
      builtins.genericClosure {
        startSet = map (key: { inherit key; }) manifest.${name}.needs;
        operator = found: map (key: { inherit key; }) manifest.${found.key}.needs;
      }
    );

  package =
    name: entry:
    run "${name}-${entry.version}"
      {
        payload = builtins.path {
          path = ./payload + "/${name}";
          name = "${name}-files";
        };
        needs = map (need: packages.${need}) entry.needs;
        libraryPath = builtins.concatStringsSep ":" (map (need: "${packages.${need}}/lib") (libraries name));
        loader = if entry.loader == null then "" else "${packages.${entry.loader}}/lib/${entry.loaderFile}";
        programs = entry.programs;
        inherit (entry) version;
        shell = if entry.programs == [ ] then "" else "${packages.busybox}/bin/sh";
      }
      ''
        cp -R "$payload" "$out"
        chmod -R u+w "$out"
        mkdir -p "$out/nix-support" "$out/bin"
        for need in $needs; do echo "$need"; done > "$out/nix-support/propagated-build-inputs"
        for program in $programs; do
          # Started by the package's own loader with its own libraries: nothing of the machine is used.
          printf '#!%s\nexec %s --argv0 "$0" --library-path %s %s "$@"\n' \
            "$shell" "$loader" "$libraryPath" "$out/libexec/$program" > "$out/bin/$program"
          chmod 755 "$out/bin/$program"
        done
      '';

  packages = builtins.mapAttrs package manifest // {
    inherit system run;
    stdenv.hostPlatform = { inherit system; };

    busybox = run "busybox-1" { } ''
      mkdir -p "$out/bin"
      cp "$builder" "$out/bin/busybox"
      for command in $("$builder" --list); do
        [ "$command" = busybox ] || ln -s busybox "$out/bin/$command"
      done
    '';

    linux = run "linux-6.12" { kernel = ./bootstrap/busybox; } ''
      mkdir -p "$out/lib/modules/6.12"
      gzip -n < "$kernel" > "$out/bzImage"
      echo "kernel/fs/ext4/ext4.ko:" > "$out/lib/modules/6.12/modules.dep"
    '';

    # A build that says a few lines and fails.
    failing =
      name:
      run "${name}-1.0" { } ''
        echo "unpacking sources"
        echo "compiling ${name}.c"
        echo "${name}.c:42: error: this package does not build"
        exit 1
      '';
  };
in
packages
