//! Every way in which an upstream fails, with every Nix: what another one has is had, and what nobody has is known to
//! be so in time.
