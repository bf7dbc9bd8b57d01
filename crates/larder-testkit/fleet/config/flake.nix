{
  inputs.nixpkgs.url = "@nixpkgs@";

  outputs =
    { self, nixpkgs }:
    let
      host = name: {
        inherit name;
        value = nixpkgs.lib.nixosSystem {
          system = "@system@";
          modules = [
            { networking.hostName = name; }
            (./hosts + "/${name}.nix")
          ];
        };
      };
    in
    {
      nixosConfigurations = builtins.listToAttrs (
        map host [
          "pc"
          "nuc"
          "hp"
        ]
      );
    };
}
