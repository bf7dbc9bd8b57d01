# A small set of packages in the place of nixpkgs, with the outputs of the real one that a fleet uses.
{
  description = "Real software of the machine that made this repository, packaged";

  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = make: builtins.listToAttrs (map (system: { name = system; value = make system; }) systems);
    in
    {
      legacyPackages = each (system: import ./. { inherit system; });
      lib.nixosSystem = import ./nixos;
    };
}
