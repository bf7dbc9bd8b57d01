//! `/metrics`: what the server has done, in Prometheus' text format.
//!
//! Promise: what is counted was done. Bytes are those of bodies as the connection took them, before TLS;
//! an answer that was cut short counts what waited there (a chunk; of what is compressed on its way, less
//! than half a megabyte) and in the kernel too, since nobody can tell how much of that arrived. Requests
//! that HTTP/2 refuses below us are not seen. Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::{sync::LazyLock, time::Duration};

use larder_cache::{
    layer::LOOKUPS,
    packed::{DROPPED, KEPT_BYTES, PACKED, PACKED_OUTCOMES, PACKED_REQUESTS},
    proxy::{PROXY_PATHS, UPSTREAM_ANSWERS, UPSTREAM_BYTES, UPSTREAM_SECONDS, UPSTREAM_UP},
};
use metrics::{Counter, Gauge, Histogram};
pub use metrics_exporter_prometheus::BuildError as MetricsError;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use crate::endpoint::Endpoint;

const REQUESTS: &str = "larder_http_requests_total";
const BYTES: &str = "larder_http_response_bytes_total";
const SECONDS: &str = "larder_http_response_seconds";
const UNDER_WAY: &str = "larder_http_answers_under_way";
const CUT_SHORT: &str = "larder_http_answers_cut_short_total";
const CONNECTIONS: &str = "larder_http_connections";
const REMEMBERED: &str = "larder_narinfos_remembered_total";

/// Bounds of the histogram's buckets, in seconds: from a narinfo out of memory to a disk that is tired.
const BUCKETS: [f64; 12] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// How often what was recorded is summed up: until then each single duration takes its place.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's recorder of metrics.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Records from now on everything that the process counts. Once a process.
    pub fn install() -> Result<Self, MetricsError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(SECONDS.to_owned()), &BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(UPSTREAM_SECONDS.to_owned()), &BUCKETS)?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(MetricsError::FailedToSetGlobalRecorder)?;
        let process = Collector::default();
        process.describe();
        describe();
        metrics::gauge!("larder_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
        // There from the beginning: who reads a page sees nothing happen before a series is there.
        let _ = Meters::of(Endpoint::Other);
        let _ = (metrics::gauge!(CONNECTIONS), metrics::counter!(REMEMBERED));
        let _ =
            (metrics::counter!(PACKED), metrics::counter!(DROPPED), metrics::gauge!(KEPT_BYTES));
        for outcome in PACKED_OUTCOMES {
            let _ = metrics::counter!(PACKED_REQUESTS, "outcome" => outcome);
        }
        Ok(Self { handle, process })
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self) -> String {
        self.process.collect();
        self.handle.render()
    }

    /// Keeps what was recorded small; never ends.
    pub async fn keep_up(&self) {
        let mut beat = tokio::time::interval(UPKEEP);
        loop {
            beat.tick().await;
            self.handle.run_upkeep();
        }
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(REQUESTS, "Requests answered, by endpoint and status.");
    describe_counter!(BYTES, "Bytes of bodies sent, before TLS.");
    describe_histogram!(SECONDS, Unit::Seconds, "From a request to the beginning of its answer.");
    describe_gauge!(UNDER_WAY, "Answers that are being sent.");
    describe_counter!(CUT_SHORT, "Answers that ended before their end.");
    describe_gauge!(CONNECTIONS, "Connections that are open.");
    describe_counter!(REMEMBERED, "Narinfos answered from memory, without a look at the store.");
    describe_counter!(LOOKUPS, "What the store was asked, by question and outcome.");
    describe_counter!(PACKED_REQUESTS, "Packed NARs asked for, by what was there of them.");
    describe_counter!(PACKED, "NARs packed when they were first asked for, and kept.");
    describe_counter!(DROPPED, "Packed NARs dropped to make room for others.");
    describe_gauge!(KEPT_BYTES, "Bytes that the packed NARs take that are kept.");
    describe_counter!(PROXY_PATHS, "Paths that the proxy was asked for, by outcome.");
    describe_counter!(UPSTREAM_ANSWERS, "What upstreams said of paths, by outcome.");
    describe_histogram!(UPSTREAM_SECONDS, Unit::Seconds, "How long they took to say it.");
    describe_gauge!(
        UPSTREAM_UP,
        "1 for an upstream's address that answers, 0 for one that does not."
    );
    describe_counter!(UPSTREAM_BYTES, "Bytes of NARs that came from upstreams, as packed there.");
    describe_gauge!("larder_build_info", "Always 1; the version is its label.");
}

/// What is counted of one endpoint.
pub(crate) struct Meters {
    pub(crate) bytes: Counter,
    pub(crate) seconds: Histogram,
    pub(crate) under_way: Gauge,
    pub(crate) cut_short: Counter,
}

impl Meters {
    pub(crate) fn of(endpoint: Endpoint) -> &'static Self {
        static ALL: LazyLock<[Meters; Endpoint::ALL.len()]> =
            LazyLock::new(|| Endpoint::ALL.map(Meters::new));
        &ALL[endpoint as usize]
    }

    fn new(endpoint: Endpoint) -> Self {
        let name = endpoint.name();
        Self {
            bytes: metrics::counter!(BYTES, "endpoint" => name),
            seconds: metrics::histogram!(SECONDS, "endpoint" => name),
            under_way: metrics::gauge!(UNDER_WAY, "endpoint" => name),
            cut_short: metrics::counter!(CUT_SHORT, "endpoint" => name),
        }
    }
}

/// Counts a request that has its answer.
pub(crate) fn answered(endpoint: Endpoint, status: u16) {
    metrics::counter!(REQUESTS, "endpoint" => endpoint.name(), "status" => status.to_string())
        .increment(1);
}

/// Counts a narinfo that was answered from memory.
pub(crate) fn remembered() {
    static COUNTER: LazyLock<Counter> = LazyLock::new(|| metrics::counter!(REMEMBERED));
    COUNTER.increment(1);
}

/// A connection, counted as long as it lives.
pub(crate) struct Connected(Gauge);

impl Connected {
    pub(crate) fn new() -> Self {
        let gauge = metrics::gauge!(CONNECTIONS);
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
