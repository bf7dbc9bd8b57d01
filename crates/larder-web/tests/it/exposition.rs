//! Prometheus' text format, read as strictly as it is written down
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>): what it does not allow is a failed test.

use std::collections::{BTreeMap, BTreeSet};

use crate::http;

pub(crate) const REQUESTS: &str = "larder_http_requests_total";
pub(crate) const BYTES: &str = "larder_http_response_bytes_total";
pub(crate) const SECONDS: &str = "larder_http_response_seconds_count";
pub(crate) const UNDER_WAY: &str = "larder_http_answers_under_way";
pub(crate) const CUT_SHORT: &str = "larder_http_answers_cut_short_total";
pub(crate) const CONNECTIONS: &str = "larder_http_connections";
pub(crate) const LOOKUPS: &str = "larder_store_lookups_total";
pub(crate) const REMEMBERED: &str = "larder_narinfos_remembered_total";

type Labels = BTreeMap<String, String>;

/// What `/metrics` told at one moment.
#[derive(Debug, Default)]
pub(crate) struct Page {
    helped: BTreeSet<String>,
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Page {
    /// Asks a server.
    pub(crate) fn of(address: &str) -> Self {
        Self::at(address, "/metrics").0
    }

    /// Asks a server for this target; also how many bytes the page had.
    pub(crate) fn at(address: &str, target: &str) -> (Self, u64) {
        let answer = http::get(address, target);
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type").unwrap();
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        (Self::parse(std::str::from_utf8(&answer.body).unwrap()), answer.body.len() as u64)
    }

    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut page = Self::default();
        let (mut current, mut done) = (String::new(), BTreeSet::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            let family = page.line(line);
            if family != current {
                assert!(done.insert(family.clone()), "{family} is not in one piece: {line}");
                current = family;
            }
        }
        page.check_histograms();
        page
    }

    /// Takes in a line; returns the family it belongs to.
    fn line(&mut self, line: &str) -> String {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(!text.is_empty() && self.helped.insert(name.to_owned()), "twice: {line}");
            return name.to_owned();
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(self.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            return name.to_owned();
        }
        assert!(!line.starts_with('#'), "{line}");
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}').unwrap())),
            None => (series, Labels::new()),
        };
        let family = self.family(name);
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let before = self.samples.insert((name.to_owned(), labels), value);
        assert!(before.is_none(), "twice: {line}");
        family
    }

    fn family(&self, sample: &str) -> String {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| {
            let name = sample.strip_suffix(part)?;
            (self.kinds.get(name)? == "histogram").then(|| name.to_owned())
        });
        let family = histogram.unwrap_or_else(|| sample.to_owned());
        assert!(self.kinds.contains_key(&family), "{sample} comes before its type");
        family
    }

    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((_, labels), count) in self.named(&format!("{name}_bucket")) {
                let mut labels = labels.clone();
                let bound = labels.remove("le").unwrap().parse().unwrap();
                buckets.entry(labels).or_default().push((bound, *count));
            }
            assert_eq!(buckets.len(), self.named(&format!("{name}_sum")).count(), "{name}");
            for (labels, mut buckets) in buckets {
                buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
                assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{name} {labels:?}");
                let count = self.samples[&(format!("{name}_count"), labels)];
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name}");
            }
        }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = (&(String, Labels), &f64)> {
        self.samples.iter().filter(move |((known, _), _)| known == name)
    }

    /// The sum of all samples of this name with at least these labels; 0 where there are none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |all: &Labels| {
            labels.iter().all(|(label, value)| all.get(*label).is_some_and(|known| known == value))
        };
        self.named(name).filter(|((_, all), _)| fits(all)).map(|(_, value)| value).sum()
    }

    /// All samples of this name above 0, each by the values of these labels.
    pub(crate) fn by<const N: usize>(
        &self,
        name: &str,
        labels: [&str; N],
    ) -> BTreeMap<[String; N], f64> {
        let values = |all: &Labels| labels.map(|label| all[label].clone());
        let above = self.named(name).filter(|(_, value)| **value > 0.0);
        above.map(|((_, all), value)| (values(all), *value)).collect()
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.samples.len()
    }

    /// Each family that has samples, with the labels it has beside a bucket's bound.
    pub(crate) fn families(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, labels) in self.samples.keys() {
            let labels = labels.keys().filter(|label| *label != "le").cloned();
            families.entry(self.family(name)).or_default().extend(labels);
        }
        for family in families.keys() {
            assert!(self.helped.contains(family), "nobody says what {family} is");
        }
        families
    }
}

/// `name="value",…`; the values of these tests need no escapes.
fn parse_labels(text: &str) -> Labels {
    let label = |label: &str| {
        let (name, value) = label.split_once('=').unwrap();
        let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        assert!(!value.contains(['"', '\\']), "{label}");
        (name.to_owned(), value.to_owned())
    };
    text.split(',').map(label).collect()
}
