# `nixpkgs.lib.nixosSystem`: modules in, a configuration with a system to build out.
{ system, modules }:
let
  pkgs = import ../. { inherit system; };

  evaluated = map (
    module:
    let
      value = if builtins.isPath module || builtins.isString module then import module else module;
    in
    if builtins.isFunction value then value { inherit pkgs config; } else value
  ) modules;

  at =
    path: default: module:
    builtins.foldl' (set: name: set.${name} or null) module path;
  present = path: builtins.filter (value: value != null) (map (at path null) evaluated);
  lists = path: builtins.concatLists (present path);
  sets = path: builtins.foldl' (all: one: all // one) { } (present path);
  last = path: builtins.foldl' (_: one: one) (throw "nothing sets ${builtins.concatStringsSep "." path}") (present path);

  hostName = last [
    "networking"
    "hostName"
  ];
  version = "25.05";

  config = {
    networking = { inherit hostName; };
    nixpkgs.hostPlatform = { inherit system; };
    environment.systemPackages = lists [
      "environment"
      "systemPackages"
    ];
    environment.etc = sets [
      "environment"
      "etc"
    ];
    system = {
      name = hostName;
      nixos = { inherit version; };
      extraDependencies = lists [
        "system"
        "extraDependencies"
      ];
      path = import ./path.nix { inherit pkgs config; };
      build = {
        etc = import ./etc.nix { inherit pkgs config; };
        toplevel = import ./toplevel.nix { inherit pkgs config; };
      };
    };
  };
in
{
  inherit config pkgs;
  options = { };
  type = "configuration";
}
