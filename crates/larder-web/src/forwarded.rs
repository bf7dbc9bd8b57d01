//! What proxies in front say of a request: who asked, and by which address.
//!
//! Promise: only a proxy that is trusted is believed, and only what is well formed: a host of harmless
//! characters, `http` or `https`, a path of plain names. Everything else is passed over, as if it had not
//! been said. Of two kinds of headers `X-Forwarded-…` comes first: proxies that write those pass a
//! client's own `Forwarded` on unread. It does not know what becomes of the answers.

mod elements;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use axum::http::{HeaderMap, HeaderName, Uri, header};
use ipnet::IpNet;

use self::elements::Element;
use crate::{base_path::BasePath, server::peer::Peer};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Longer than a name in the DNS with its port can be, in bytes.
const LONGEST_HOST: usize = 255 + 6;

/// Whom to believe what they say of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Those in these networks, and whoever may open our unix sockets.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn trust(&self, peer: Peer) -> bool {
        peer.address.is_none_or(|address| self.contain(address.ip()))
    }

    /// A socket that listens on all addresses has IPv4 ones as `::ffff:127.0.0.1`.
    fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A request as it was before the first trusted proxy took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who asked.
    pub client: Client,
    secure: bool,
    host: Option<Host>,
    prefix: BasePath,
}

/// Who asked, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The other end of the connection.
    Peer(Peer),
    /// Somebody behind it.
    Behind(IpAddr),
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => peer.fmt(formatter),
            Self::Behind(address) => address.fmt(formatter),
        }
    }
}

impl Origin {
    /// Reads what there is. A request without such headers costs a few look-ups.
    #[must_use]
    pub fn of(peer: Peer, uri: &Uri, headers: &HeaderMap, proxies: &TrustedProxies) -> Self {
        let mut origin = Self {
            client: Client::Peer(peer),
            secure: peer.secure,
            host: own_host(uri, headers),
            prefix: BasePath::default(),
        };
        let x_headers = [FOR, PROTO, HOST, PREFIX].iter().any(|name| headers.contains_key(name));
        if (x_headers || headers.contains_key(header::FORWARDED)) && proxies.trust(peer) {
            if x_headers {
                origin.believe_x_headers(headers, proxies);
            } else {
                origin.believe_forwarded(headers, proxies);
            }
        }
        origin
    }

    /// The address that was asked, without a slash at its end: what comes below `base` there follows.
    /// Nothing, when no host was named.
    #[must_use]
    pub fn address(&self, base: &BasePath) -> Option<String> {
        let scheme = if self.secure { "https" } else { "http" };
        let Host(host) = self.host.as_ref()?;
        Some(format!("{scheme}://{host}{}{base}", self.prefix))
    }

    fn believe_x_headers(&mut self, headers: &HeaderMap, proxies: &TrustedProxies) {
        let lines = headers.get_all(FOR).iter().map(|line| line.to_str().unwrap_or_default());
        let nodes: Vec<Option<IpAddr>> = lines.flat_map(|line| line.split(',')).map(node).collect();
        self.client = outermost(&nodes, proxies).1.map_or(self.client, Client::Behind);
        self.secure = last(headers, &PROTO).and_then(secure).unwrap_or(self.secure);
        self.host = last(headers, &HOST).and_then(Host::parse).or(self.host.take());
        self.prefix = last(headers, &PREFIX).and_then(|it| it.parse().ok()).unwrap_or_default();
    }

    /// RFC 7239. Each element was written by the one whom the next element names, so all are true from
    /// the one that names the client on.
    fn believe_forwarded(&mut self, headers: &HeaderMap, proxies: &TrustedProxies) {
        let lines = headers.get_all(header::FORWARDED).iter();
        let lines: Option<Vec<&str>> = lines.map(|line| line.to_str().ok()).collect();
        let elements = lines.and_then(|lines| elements::parse(&lines.join(",")));
        let elements: Vec<Element> = elements.unwrap_or_default();
        let nodes: Vec<Option<IpAddr>> =
            elements.iter().map(|element| element.node.as_deref().and_then(node)).collect();
        let (first_true, client) = outermost(&nodes, proxies);
        let Some(element) = elements.get(first_true) else { return };
        self.client = client.map_or(self.client, Client::Behind);
        self.secure = element.proto.as_deref().and_then(secure).unwrap_or(self.secure);
        self.host = element.host.as_deref().and_then(Host::parse).or(self.host.take());
    }
}

/// Where, in a chain from the client to the last proxy, belief has to end, and the outermost address that
/// was named there or later: the right-most one that is no trusted proxy's, if it gets so far.
fn outermost(chain: &[Option<IpAddr>], proxies: &TrustedProxies) -> (usize, Option<IpAddr>) {
    let mut known = None;
    for (place, node) in chain.iter().enumerate().rev() {
        let Some(address) = *node else { return (place, known) };
        known = Some(address);
        if !proxies.contain(address) {
            return (place, known);
        }
    }
    (0, known)
}

/// An address as proxies write it: alone, with a port, IPv6 in brackets or not.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let in_brackets =
        || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok();
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| in_brackets().map(IpAddr::V6));
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

/// Where several proxies said something, the nearest one is right: it alone talks to us.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next().map(str::trim)
}

fn secure(proto: &str) -> Option<bool> {
    match proto {
        _ if proto.eq_ignore_ascii_case("https") => Some(true),
        _ if proto.eq_ignore_ascii_case("http") => Some(false),
        _ => None,
    }
}

/// A host, perhaps with a port, of characters that mean nothing in a page or a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host(String);

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let good = (1..=LONGEST_HOST).contains(&text.len()) && text.chars().all(plain);
        good.then(|| Self(text.to_owned()))
    }
}

/// In HTTP/2 the host is part of what is asked for, and there need be no header.
fn own_host(uri: &Uri, headers: &HeaderMap) -> Option<Host> {
    let host = match headers.get(header::HOST) {
        Some(host) => host.to_str().ok(),
        None => uri.authority().map(axum::http::uri::Authority::as_str),
    };
    host.and_then(Host::parse)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer { address: Some(address.parse().unwrap()), secure: false }
    }

    fn proxies() -> TrustedProxies {
        let networks = ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "fd00::/8"];
        TrustedProxies::new(networks.map(|network| network.parse().unwrap()).to_vec())
    }

    /// What is shown and logged of a request with these headers.
    fn seen(peer: Peer, lines: &[(&str, &str)]) -> (String, String) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("own:5000"));
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let origin = Origin::of(peer, &Uri::from_static("/"), &headers, &proxies());
        (origin.address(&BasePath::default()).unwrap(), origin.client.to_string())
    }

    fn client(lines: &[(&str, &str)]) -> String {
        seen(peer("10.0.0.1:4000"), lines).1
    }

    fn address(lines: &[(&str, &str)]) -> String {
        seen(peer("10.0.0.1:4000"), lines).0
    }

    const ALL: [(&str, &str); 5] = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "cache.example"),
        ("x-forwarded-prefix", "/cache"),
        ("forwarded", "for=192.0.2.9;proto=http;host=other.example"),
    ];

    #[test]
    fn a_trusted_proxy_is_believed_and_a_stranger_is_not() {
        let outer = ("https://cache.example/cache".to_owned(), "192.0.2.1".to_owned());
        let unix = Peer { address: None, secure: false };
        for trusted in [peer("127.0.0.1:1"), peer("[::1]:1"), peer("[::ffff:10.1.2.3]:1"), unix] {
            assert_eq!(seen(trusted, &ALL), outer, "{trusted}");
        }
        for stranger in ["11.0.0.1:1", "[::2]:1", "[::ffff:11.0.0.1]:1", "192.0.2.1:1"] {
            let own = ("http://own:5000".to_owned(), stranger.to_owned());
            assert_eq!(seen(peer(stranger), &ALL), own);
            assert_eq!(seen(peer(stranger), &ALL[4..]), own);
        }
        assert_eq!(seen(unix, &[]), ("http://own:5000".to_owned(), "unix".to_owned()));
    }

    #[test]
    fn our_own_tls_is_known_without_any_header() {
        let secure = Peer { secure: true, ..peer("127.0.0.1:1") };
        assert_eq!(seen(secure, &[]).0, "https://own:5000");
        assert_eq!(seen(secure, &[("x-forwarded-for", "192.0.2.1")]).0, "https://own:5000");
        assert_eq!(seen(secure, &[("x-forwarded-proto", "http")]).0, "http://own:5000");
    }

    #[test]
    fn the_host_of_http_2_is_part_of_the_target() {
        let uri = Uri::from_static("https://two.example:8443/");
        let origin = Origin::of(peer("11.0.0.1:1"), &uri, &HeaderMap::new(), &proxies());
        let base = "/base".parse().unwrap();
        assert_eq!(origin.address(&base).as_deref(), Some("http://two.example:8443/base"));
        let uri = Uri::from_static("https://user@two.example/");
        let origin = Origin::of(peer("11.0.0.1:1"), &uri, &HeaderMap::new(), &proxies());
        assert_eq!(origin.address(&base), None);
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_no_proxy_of_ours() {
        for (chain, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("203.0.113.7, 192.0.2.1, 10.0.0.9 ,127.0.0.1", "192.0.2.1"),
            ("10.0.0.7, 10.0.0.8", "10.0.0.7"),
            ("192.0.2.1:4711, [fd00::1]:80", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, nonsense, 10.0.0.8", "10.0.0.8"),
            ("192.0.2.1, nonsense", "10.0.0.1:4000"),
            ("192.0.2.1,", "10.0.0.1:4000"),
            ("", "10.0.0.1:4000"),
            ("192.0.2.1\u{fc}", "10.0.0.1:4000"),
        ] {
            assert_eq!(client(&[("x-forwarded-for", chain)]), expected, "{chain}");
        }
        let two = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(client(&two), "192.0.2.1");
    }

    #[test]
    fn of_several_words_the_nearest_proxys_counts() {
        let hosts =
            [("x-forwarded-host", "evil.example"), ("x-forwarded-host", "a.example, b.example")];
        assert_eq!(address(&hosts), "http://b.example");
        assert_eq!(address(&[("x-forwarded-proto", "http,https")]), "https://own:5000");
        assert_eq!(address(&[("x-forwarded-prefix", "/a/, /b/c/")]), "http://own:5000/b/c");
    }

    #[test]
    fn forwarded_is_read_where_there_is_nothing_else() {
        let forwarded = |text| seen(peer("10.0.0.1:4000"), &[("forwarded", text)]);
        let told = |address: &str, client: &str| (address.to_owned(), client.to_owned());
        assert_eq!(
            forwarded(
                "for=203.0.113.7;host=evil.example;proto=http, For=\"[2001:db8::1]:47\" ; Proto=HTTPS;host=\"cache.example:8443\", for=10.0.0.3;host=inner"
            ),
            told("https://cache.example:8443", "2001:db8::1")
        );
        assert_eq!(
            forwarded(
                "for=192.0.2.1;host=evil.example, for=unknown;host=cache.example, for=10.0.0.3"
            ),
            told("http://cache.example", "10.0.0.3")
        );
        assert_eq!(forwarded("proto=https"), told("https://own:5000", "10.0.0.1:4000"));
        assert_eq!(forwarded("for=_hidden;proto=https"), told("https://own:5000", "10.0.0.1:4000"));
        for nonsense in [
            "",
            "for",
            "for=192.0.2.1;;=",
            "for=\"192.0.2.1",
            "for=192.0.2.1 proto=https",
            "\u{fc}",
        ] {
            assert_eq!(forwarded(nonsense), told("http://own:5000", "10.0.0.1:4000"), "{nonsense}");
        }
        let both =
            [("forwarded", "for=192.0.2.9;host=evil.example"), ("x-forwarded-proto", "https")];
        assert_eq!(seen(peer("10.0.0.1:4000"), &both), told("https://own:5000", "10.0.0.1:4000"));
    }

    #[test]
    fn hostile_words_are_as_if_they_had_not_been_said() {
        for host in [
            "<script>",
            "a b",
            "a/b",
            "a\"b",
            "a@b",
            "${x}",
            "",
            "a%0a",
            "\u{fc}",
            &"a".repeat(262),
        ] {
            assert_eq!(address(&[("x-forwarded-host", host)]), "http://own:5000", "{host}");
            let quoted = format!("host=\"{host}\"");
            assert_eq!(address(&[("forwarded", &quoted)]), "http://own:5000", "{host}");
        }
        for proto in ["javascript", "ftp", "", "https:", "http://", "httpss"] {
            assert_eq!(address(&[("x-forwarded-proto", proto)]), "http://own:5000", "{proto}");
        }
        for prefix in
            ["cache", "//evil.example", "/..", "/a/../b", "/<b>", "/a b", "/a;b", "/%2e%2e", ""]
        {
            assert_eq!(address(&[("x-forwarded-prefix", prefix)]), "http://own:5000", "{prefix}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_said_the_address_is_one_and_harmless(
            values in prop::collection::vec((0..5_usize, "[ -~]{0,40}|([a-z]{1,4}=)?\"?[0-9a-f.:,;/\\[\\]=\"\\\\]{0,40}"), 0..6)
        ) {
            let lines: Vec<(&str, &str)> =
                values.iter().map(|(name, value)| (ALL[*name].0, value.as_str())).collect();
            let (address, _) = seen(peer("127.0.0.1:1"), &lines);
            let rest = address.strip_prefix("http").unwrap();
            let rest = rest.strip_prefix('s').unwrap_or(rest).strip_prefix("://").unwrap();
            let harmless = |c: char| c.is_ascii_alphanumeric() || ".-:[]/_~".contains(c);
            prop_assert!(rest.chars().all(harmless) && !rest.ends_with('/'), "{}", address);
            prop_assert!(!rest.split('/').skip(1).any(|name| matches!(name, "" | "." | "..")));
            let stranger = seen(peer("11.0.0.1:1"), &lines);
            prop_assert_eq!(stranger, ("http://own:5000".to_owned(), "11.0.0.1:1".to_owned()));
        }

        #[test]
        fn a_client_is_found_behind_any_number_of_our_proxies(
            before in "[ -~]{0,30}",
            client_bits in any::<u32>(),
            ours in prop::collection::vec(any::<[u8; 3]>(), 0..8),
        ) {
            let address = IpAddr::V4(client_bits.into());
            prop_assume!(!proxies().contain(address));
            let chain: Vec<String> =
                ours.iter().map(|[a, b, c]| format!(", 10.{a}.{b}.{c}")).collect();
            let plain = format!("{before},{address}{}", chain.concat());
            prop_assert_eq!(client(&[("x-forwarded-for", &plain)]), address.to_string());
            let chain = chain.concat().replace(", ", ", for=");
            let forwarded = format!("for={address};proto=https{chain}");
            let seen = seen(peer("127.0.0.1:1"), &[("forwarded", &forwarded)]);
            prop_assert_eq!(seen, ("https://own:5000".to_owned(), address.to_string()));
        }
    }
}
