//! A real Caddy on a loopback port, as a proxy before something else.

use tempfile::TempDir;

use crate::process::{Background, Program, find_program};
use crate::scratch::scratch;
use crate::tree::{make_dir, write};

/// A running Caddy; gone on drop.
#[derive(Debug)]
pub struct Caddy {
    server: Background,
    _dir: TempDir,
}

impl Caddy {
    /// Runs a Caddyfile without its block of global options, which are chosen here: it asks nobody for
    /// certificates, redirects nothing to HTTPS, and leaves nothing behind. Its sites name their ports;
    /// `port` is one of them on 127.0.0.1.
    ///
    /// # Panics
    /// When Caddy is missing or refuses the file.
    #[must_use]
    pub fn start(caddyfile: &str, port: u16) -> Self {
        let dir = scratch("caddy");
        let home = dir.path().join("home");
        make_dir(&home);
        let text = format!(
            "{{\n\tadmin off\n\tauto_https off\n\tstorage file_system {home}\n}}\n\n{caddyfile}",
            home = home.display(),
        );
        let file = dir.path().join("Caddyfile");
        write(&file, text);
        let program = Program::new(find_program("caddy"));
        let mut server = program
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            .env("HOME", &home)
            .env("XDG_DATA_HOME", &home)
            .env("XDG_CONFIG_HOME", &home)
            .spawn();
        server.wait_for_port(&format!("127.0.0.1:{port}"));
        Self { server, _dir: dir }
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
