//! A cluster of three real Garage nodes: a distributed object store that keeps each object three times.
//!
//! The program is not part of any distribution of Debian: `./dev garage` builds it into `.cache/tools`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::nix::workspace_root;
use crate::process::{Background, Finished, Program};
use crate::scratch::scratch;
use crate::tree::{make_dir, write};

/// The only bucket.
pub const BUCKET: &str = "larder-test";

/// Shared by the nodes, which trust whoever knows it: 32 bytes in hexadecimal.
const RPC_SECRET: &str = "1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec";

/// A running cluster; gone on drop.
#[derive(Debug)]
pub struct Garage {
    nodes: Vec<Node>,
    key: (String, String),
    _dir: TempDir,
}

#[derive(Debug)]
struct Node {
    process: Background,
    config: PathBuf,
    api: String,
}

impl Garage {
    /// Where its program lies when it was built.
    #[must_use]
    pub fn program() -> PathBuf {
        workspace_root().join(".cache/tools/garage/bin/garage")
    }

    /// Three nodes with one bucket and a key that may do everything with it.
    ///
    /// # Panics
    /// When the program was not built, or the nodes do not come together.
    #[must_use]
    pub fn cluster() -> Self {
        let program = Self::program();
        assert!(program.is_file(), "{} is not there: run ./dev garage", program.display());
        let dir = scratch("garage");
        let nodes: Vec<Node> = (0..3).map(|number| Node::start(dir.path(), number)).collect();
        let ids: Vec<String> = nodes.iter().map(Node::identity).collect();
        for id in &ids {
            let _ = nodes[0].ask(&["node", "connect", id]).success();
        }
        for id in &ids {
            let id = id.split('@').next().unwrap_or(id);
            let _ = nodes[0].ask(&["layout", "assign", id, "-z", "here", "-c", "1G"]).success();
        }
        let _ = nodes[0].ask(&["layout", "apply", "--version", "1"]).success();
        let mut cluster = Self { nodes, key: Default::default(), _dir: dir };
        cluster.settle();
        cluster
    }

    /// The bucket as Larder and Nix write it, through one of the nodes: 0, 1 or 2.
    #[must_use]
    pub fn url(&self, node: usize) -> String {
        format!("s3://{BUCKET}?endpoint={}&scheme=http&region=garage", self.nodes[node].api)
    }

    /// Both halves of the key: its name and its secret.
    #[must_use]
    pub fn key(&self) -> (&str, &str) {
        (&self.key.0, &self.key.1)
    }

    /// Kills a node, without a chance to say goodbye.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process.kill();
    }

    /// Waits until the layout is everywhere, then makes the key and the bucket.
    fn settle(&mut self) {
        let first = &mut self.nodes[0];
        let config = first.config.clone();
        first.process.wait_for("a cluster that answers", Duration::from_secs(60), |_| {
            let made = run(&config, &["bucket", "create", BUCKET]);
            (made.ok()
                || made.stderr.contains("BucketAlreadyOwnedByYou")
                || made.stderr.contains("already exists"))
            .then_some(())
        });
        let shown = first.ask(&["key", "create", "larder-test"]).success();
        let value = |name: &str| {
            let line = shown.stdout.lines().find(|line| line.trim_start().starts_with(name));
            let word = line.and_then(|line| line.split_whitespace().last());
            word.unwrap_or_else(|| panic!("garage shows no {name}: {}", shown.stdout)).to_owned()
        };
        let key = (value("Key ID"), value("Secret key"));
        let allow = ["bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", &key.0];
        let _ = first.ask(&allow).success();
        self.key = key;
    }
}

impl Node {
    fn start(dir: &Path, number: usize) -> Self {
        let folder = dir.join(format!("node{number}"));
        make_dir(&folder);
        // An address of this process's own: a port that is free now may be somebody's outgoing connection's soon.
        let [.., high, low] = std::process::id().to_be_bytes();
        let host = format!("127.{}.{low}.{}", high.max(1), number + 1);
        let (rpc, api) = (format!("{host}:3901"), format!("{host}:3900"));
        let config = folder.join("garage.toml");
        let text = format!(
            "metadata_dir = \"{d}/meta\"\ndata_dir = \"{d}/data\"\ndb_engine = \"sqlite\"\n\
             replication_factor = 3\nconsistency_mode = \"consistent\"\n\
             rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\n\
             rpc_secret = \"{RPC_SECRET}\"\n\
             [s3_api]\napi_bind_addr = \"{api}\"\ns3_region = \"garage\"\nroot_domain = \".s3.test\"\n",
            d = folder.display(),
        );
        write(&config, text);
        let server = Program::new(Garage::program()).arg("-c").arg(&config).arg("server");
        let mut process = server.env("RUST_LOG", "warn").spawn();
        process.wait_for_port(&api);
        Self { process, config, api }
    }

    /// `KEY@ADDRESS`.
    fn identity(&self) -> String {
        let said = self.ask(&["node", "id", "-q"]).success();
        said.text().lines().next().unwrap_or_default().trim().to_owned()
    }

    fn ask(&self, words: &[&str]) -> Finished {
        run(&self.config, words)
    }
}

fn run(config: &Path, words: &[&str]) -> Finished {
    Program::new(Garage::program()).arg("-c").arg(config).args(words).run()
}
