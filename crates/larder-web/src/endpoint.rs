//! What a request is about, in few words: what is counted together.

/// One kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Landing,
    CacheInfo,
    Narinfo,
    Listing,
    Nar,
    Log,
    Realisation,
    Debuginfo,
    File,
    Fleet,
    Builds,
    Health,
    Version,
    Metrics,
    Status,
    Other,
}

impl Endpoint {
    /// All of them, each at the place of its number.
    pub(crate) const ALL: [Self; 16] = [
        Self::Landing,
        Self::CacheInfo,
        Self::Narinfo,
        Self::Listing,
        Self::Nar,
        Self::Log,
        Self::Realisation,
        Self::Debuginfo,
        Self::File,
        Self::Fleet,
        Self::Builds,
        Self::Health,
        Self::Version,
        Self::Metrics,
        Self::Status,
        Self::Other,
    ];

    /// The endpoint of a path below the base path.
    pub(crate) fn of(path: &str) -> Self {
        // What `CONNECT` and `OPTIONS *` name is no path, nor is the rest of a name that only begins alike.
        let Some(path) = path.strip_prefix('/') else { return Self::Other };
        match path.split_once('/') {
            Some(("serve", _)) => Self::File,
            Some(("fleet", _)) => Self::Fleet,
            Some(("builds", _)) => Self::Builds,
            Some(("nar" | "log" | "realisations" | "build-trace-v2" | "debuginfo", _)) => {
                Self::of_a_cache(path)
            }
            // Perhaps the name of a static cache.
            Some((_, below)) => Self::of_a_cache(below),
            None => Self::at_the_top(path),
        }
    }

    /// The endpoint of a path below a static cache's name.
    fn of_a_cache(path: &str) -> Self {
        match path.split_once('/') {
            Some(("nar", _)) => Self::Nar,
            Some(("log", _)) => Self::Log,
            Some(("realisations" | "build-trace-v2", _)) => Self::Realisation,
            Some(("debuginfo", _)) => Self::Debuginfo,
            Some(_) => Self::Other,
            None => match Self::at_the_top(path) {
                found @ (Self::CacheInfo | Self::Narinfo | Self::Listing) => found,
                _ => Self::Other,
            },
        }
    }

    fn at_the_top(name: &str) -> Self {
        match name {
            "" => Self::Landing,
            "nix-cache-info" => Self::CacheInfo,
            "fleet" => Self::Fleet,
            "builds" => Self::Builds,
            "health" => Self::Health,
            "version" => Self::Version,
            "metrics" => Self::Metrics,
            "status" => Self::Status,
            name if name.ends_with(".narinfo") => Self::Narinfo,
            name if name.ends_with(".ls") => Self::Listing,
            _ => Self::Other,
        }
    }

    /// The label's value.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Landing => "landing",
            Self::CacheInfo => "cache-info",
            Self::Narinfo => "narinfo",
            Self::Listing => "listing",
            Self::Nar => "nar",
            Self::Log => "log",
            Self::Realisation => "realisation",
            Self::Debuginfo => "debuginfo",
            Self::File => "file",
            Self::Fleet => "fleet",
            Self::Builds => "builds",
            Self::Health => "health",
            Self::Version => "version",
            Self::Metrics => "metrics",
            Self::Status => "status",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn each_endpoint_is_at_the_place_of_its_number() {
        for (number, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            assert_eq!(endpoint as usize, number, "{endpoint:?}");
        }
    }

    #[test]
    fn paths_are_counted_as_what_they_are() {
        let hash = "00000000000000000000000000000000";
        for (path, endpoint) in [
            ("/".to_owned(), Endpoint::Landing),
            ("/nix-cache-info".to_owned(), Endpoint::CacheInfo),
            (format!("/{hash}.narinfo"), Endpoint::Narinfo),
            (format!("/{hash}.ls"), Endpoint::Listing),
            (format!("/nar/{hash}.nar"), Endpoint::Nar),
            (format!("/log/{hash}-x.drv"), Endpoint::Log),
            (format!("/serve/{hash}/a/b"), Endpoint::File),
            ("/realisations/x.doi".to_owned(), Endpoint::Realisation),
            ("/build-trace-v2/x/out.doi".to_owned(), Endpoint::Realisation),
            ("/fleet".to_owned(), Endpoint::Fleet),
            ("/fleet/laptop.json".to_owned(), Endpoint::Fleet),
            ("/builds".to_owned(), Endpoint::Builds),
            ("/builds/12.json".to_owned(), Endpoint::Builds),
            ("/health".to_owned(), Endpoint::Health),
            ("/version".to_owned(), Endpoint::Version),
            ("/metrics".to_owned(), Endpoint::Metrics),
            ("/status".to_owned(), Endpoint::Status),
            ("/favicon.ico".to_owned(), Endpoint::Other),
            ("/wp-admin/setup.php".to_owned(), Endpoint::Other),
            ("/main/".to_owned(), Endpoint::Other),
            ("/main/nix-cache-info".to_owned(), Endpoint::CacheInfo),
            (format!("/main/{hash}.narinfo"), Endpoint::Narinfo),
            (format!("/main/nar/{hash}.nar.zst"), Endpoint::Nar),
            (format!("/main/debuginfo/{hash}"), Endpoint::Debuginfo),
            ("/main/health".to_owned(), Endpoint::Other),
            ("/main/nar/deep/er".to_owned(), Endpoint::Nar),
            ("*".to_owned(), Endpoint::Other),
            (String::new(), Endpoint::Other),
            ("health".to_owned(), Endpoint::Other),
        ] {
            assert_eq!(Endpoint::of(&path), endpoint, "{path}");
        }
    }
}
