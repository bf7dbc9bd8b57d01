# Derivations in the shapes in which nixpkgs writes them: the attributes are those of nixpkgs' own
# functions (the README says which were read), the programs are stand-ins.
let
  tool = name: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; };
  bash = tool "bash-5.2p37";
  stdenv = tool "stdenv-linux";

  # What stdenv.mkDerivation adds to everything.
  mkDerivation = attributes: derivation ({
    system = "x86_64-linux";
    builder = "${bash}/bin/bash";
    args = [ "-e" (builtins.toFile "source-stdenv.sh" "source $stdenv/setup") (builtins.toFile "default-builder.sh" "genericBuild") ];
    inherit stdenv;
    strictDeps = "";
    buildInputs = "";
    nativeBuildInputs = "";
    configureFlags = "";
    patches = "";
    doCheck = "";
    outputs = [ "out" ];
  } // attributes);

  runCommand = name: attributes: buildCommand: mkDerivation ({
    inherit name buildCommand;
    enableParallelBuilding = true;
    passAsFile = [ "buildCommand" ] ++ attributes.passAsFile or [ ];
  } // removeAttrs attributes [ "passAsFile" ]);

  runCommandLocal = name: attributes: runCommand name ({ preferLocalBuild = true; allowSubstitutes = false; } // attributes);

  writeTextFile = { name, text, executable ? false, allowSubstitutes ? false, preferLocalBuild ? true }:
    runCommand name {
      inherit text executable allowSubstitutes preferLocalBuild;
      checkPhase = "";
      passAsFile = [ "text" ];
    } "mv \"$textPath\" \"$out\"";
in
rec {
  # fetchurl: prefers local build, and its content is fixed.
  fetchurl = mkDerivation {
    name = "hello-2.12.1.tar.gz";
    urls = [ "mirror://gnu/hello/hello-2.12.1.tar.gz" ];
    outputHashAlgo = null;
    outputHash = "sha256-jZkUKv2SV28wsM18tCqNxoCZmLxdYH2Idh9RLibH2yA=";
    outputHashMode = "flat";
    preferLocalBuild = true;
  };
  # stdenv.mkDerivation: an ordinary package, with more outputs than one.
  package = mkDerivation {
    name = "hello-2.12.1";
    pname = "hello";
    version = "2.12.1";
    src = fetchurl;
    outputs = [ "out" "dev" "man" ];
    postPatch = "quotes \" and \\ and\ttabs\r\n";
  };
  # A package of somebody's own flake, built from a folder of it.
  package-own-source = mkDerivation { name = "mine-0.1"; pname = "mine"; version = "0.1"; src = ./shapes; };
  # A program that may not be given away, repacked: local to spare a network, but from a source.
  package-unfree = mkDerivation { name = "unfree-1.0"; pname = "unfree"; version = "1.0"; src = fetchurl; preferLocalBuild = true; };
  package-structured = derivation {
    name = "rustc-1.85"; system = "x86_64-linux"; builder = "${bash}/bin/bash";
    __structuredAttrs = true; srcs = [ fetchurl ]; preferLocalBuild = true; outputs = [ "out" ];
  };
  # pkgs.runCommand without more says nothing of where it is built.
  package-run-command = runCommand "man-cache" { } "mandb";
  # pkgs.writeShellApplication takes back what writeTextFile says.
  package-shell-application = writeTextFile { name = "tool"; text = "exit"; executable = true; allowSubstitutes = true; preferLocalBuild = false; };

  config-etc = runCommandLocal "etc" { } "ln -s ${config-text} $out";
  config-text = writeTextFile { name = "etc-os-release"; text = "NAME=\"NixOS\"\n"; };
  config-unit = runCommand "unit-sshd.service" {
    preferLocalBuild = true; allowSubstitutes = false; text = "[Service]\nExecStart=${package}/bin/hello\n"; passAsFile = [ "text" ];
  } "mv \"$textPath\" \"$out\"";
  # mirrors-list of fetchurl: only prefers to be local.
  config-prefers = mkDerivation { name = "mirrors-list"; preferLocalBuild = true; gnu = [ "https://ftp.gnu.org/" ]; };
  # pkgs.buildEnv before and since it has structured attributes.
  config-environment = runCommand "system-path" {
    preferLocalBuild = true; allowSubstitutes = false; passAsFile = [ "pkgs" ];
    pkgs = builtins.toJSON [ { paths = [ "${package}" ]; priority = 5; } ]; pathsToLink = [ "/bin" ]; ignoreCollisions = false;
  } "builder.pl";
  config-environment-structured = derivation {
    name = "system-path"; system = "x86_64-linux"; builder = "${bash}/bin/bash";
    __structuredAttrs = true; preferLocalBuild = true; allowSubstitutes = false;
    chosenOutputs = [ { paths = [ package ]; priority = 5; } ]; pathsToLink = [ "/bin" ]; buildCommand = "builder.pl";
  };
  # pkgs.replaceVarsWith, of which every system has some: a file of nixpkgs is its source.
  config-substituted = mkDerivation {
    name = "stage-2-init.sh"; src = builtins.toFile "stage-2-init.sh" "#! @shell@"; dontUnpack = true;
    preferLocalBuild = true; allowSubstitutes = false; buildPhase = "substitute \"$src\" \"$target\"";
  };
  config-system = mkDerivation {
    name = "nixos-system-pc-25.05.20250601.abcdef0"; preferLocalBuild = true; allowSubstitutes = false;
    passAsFile = [ "extraDependencies" ]; extraDependencies = [ ]; buildCommand = "mkdir $out; ln -s ${config-etc} ${config-environment} ${config-unit} $out";
    systemd = package; nixosLabel = "25.05.20250601.abcdef0";
  };
}
