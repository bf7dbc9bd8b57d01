//! `larder proxy` before a static cache that nginx serves: what it costs, and what it saves.

use std::{
    fs,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use larder_testkit::{
    BlackHole, Nix,
    nginx::Nginx,
    process::{Background, Program, built_program},
    scratch::scratch,
};
use tempfile::TempDir;

use crate::{closure, http::Connection, site::Site, statistics::median};

/// Bytes a second of a connection to a cache that is far away: 32 Mbit/s.
const FROM_AFAR: &str = "4m";

/// A cache by zstd, as most are, and who serves it: as fast as can be, and from afar.
pub(crate) struct Upstream {
    nginx: Nginx,
    afar: Nginx,
    key: String,
    hole: BlackHole,
}

/// A proxy of it.
pub(crate) struct Running {
    pub(crate) url: String,
    _process: Background,
    _folder: TempDir,
}

impl Upstream {
    pub(crate) fn new(site: &Site) -> Self {
        let folder: PathBuf = site.store.work_dir().join("packed");
        let key = site.store.work_dir().join("bench.key");
        let to =
            format!("file://{}?compression=zstd&secret-key={}", folder.display(), key.display());
        let _ = site.store.nix(&["nix", "copy", "--to", &to, &site.top]).success();
        let public = Program::new(built_program("larder")).args(["key", "public"]).arg(&key).run();
        let key = public.success().text().to_owned();
        let afar = format!("root {}; limit_rate {FROM_AFAR};", folder.display());
        let (nginx, afar) = (Nginx::fastest(&folder), Nginx::with_server_lines(&afar));
        Self { nginx, afar, key, hole: BlackHole::new() }
    }

    /// A proxy that knows nothing yet.
    pub(crate) fn proxy(&self) -> Running {
        self.proxy_of(&[self.nginx.url()])
    }

    /// A proxy of these; of the one that is dead it knows that.
    fn proxy_of(&self, urls: &[String]) -> Running {
        let folder = scratch("proxy");
        let config = folder.path().join("larder.toml");
        let mut text = format!(
            "state-dir = {:?}\n[proxy]\nlisten = [\"127.0.0.1:0\"]\nkeep-size = \"10GB\"\n",
            folder.path().join("state")
        );
        for url in urls {
            text.push_str(&format!(
                "[[upstream]]\nname = {url:?}\nurls = [{url:?}]\npublic-keys = [{:?}]\n",
                self.key
            ));
        }
        fs::write(&config, text).expect("the configuration can be written");
        let larder = Program::new(built_program("larder")).args(["proxy", "--config"]).arg(&config);
        let mut process = larder.spawn();
        let line = process.wait_for_line("listening on ");
        let url = format!("http://{}", line.rsplit(' ').next().unwrap_or_default());
        // Until it knows of each upstream how it is.
        let known = Instant::now() + Duration::from_secs(30);
        loop {
            let status = String::from_utf8(Connection::open(&url).get("/status"));
            let status = status.expect("JSON is text");
            if status.contains("\"up\"") && !status.contains("\"unproven\"") {
                break;
            }
            assert!(Instant::now() < known, "{status}");
            sleep(Duration::from_millis(20));
        }
        Running { url, _process: process, _folder: folder }
    }

    /// Seconds that a client takes directly, through a proxy that has it all, and through one that knows nothing.
    pub(crate) fn closure(&self, site: &Site, warm: &Running) -> [f64; 3] {
        fetched(&self.nginx, &[warm, &self.proxy()], site)
    }

    /// The same where the cache is far away.
    pub(crate) fn closure_from_afar(&self, site: &Site, warm: &Running) -> [f64; 3] {
        fetched(&self.afar, &[warm, &self.proxy_of(&[self.afar.url()])], site)
    }

    /// Microseconds of a narinfo that is asked for the first time, beside a dead upstream and without one.
    pub(crate) fn latency(&self, site: &Site) -> [f64; 2] {
        let dead = format!("http://{}", self.hole.address());
        [vec![dead, self.nginx.url()], vec![self.nginx.url()]].map(|urls| {
            let proxy = self.proxy_of(&urls);
            let mut connection = Connection::open(&proxy.url);
            let took: Vec<f64> = site
                .narinfos
                .iter()
                .map(|path| {
                    let begun = Instant::now();
                    let _ = connection.get(path);
                    begun.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            median(&took)
        })
    }
}

fn fetched(directly: &Nginx, [warm, cold]: &[&Running; 2], site: &Site) -> [f64; 3] {
    [&directly.url(), &warm.url, &cold.url].map(|from| closure::fetch(from, site))
}
