//! What a server behind a proxy has to know: where it lies there, and whom to believe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use larder_web::base_path::BasePath;

use super::problem::{ValueError, quoted};

const LOOPBACK_4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const LOOPBACK_6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);

/// Programs of this machine.
pub(super) fn loopback() -> Vec<IpNet> {
    vec![LOOPBACK_4.into(), LOOPBACK_6.into()]
}

pub(super) fn base_path(text: &str) -> Result<BasePath, ValueError> {
    text.parse().map_err(|error| {
        let what = format!("{} {error}", quoted(text));
        ValueError::new(what, "write `/` and the names as they stand in addresses: `/cache`")
    })
}

/// An address, or a network in CIDR form.
pub(super) fn network(text: &str) -> Result<IpNet, ValueError> {
    let refuse = |what: &str, remedy: String| {
        Err(ValueError::new(format!("{} {what}", quoted(text)), remedy))
    };
    let network: Option<IpNet> =
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = network else {
        let remedy = "write `10.0.0.7` or `10.0.0.0/8`, `fd00::7` or `fd00::/64`";
        return refuse("is no IP address or network", remedy.to_owned());
    };
    if matches!(network, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some()) {
        return refuse("is IPv4 within IPv6", "write the IPv4 address itself".to_owned());
    }
    if network.addr() != network.network() {
        let whole = network.trunc();
        let remedy =
            format!("write `{whole}` for the network, `{}` for the address", network.addr());
        return refuse("is an address with a network's length", remedy);
    }
    Ok(network)
}
