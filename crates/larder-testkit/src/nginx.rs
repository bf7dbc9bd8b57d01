//! A real nginx on a loopback port: a static binary cache, or a proxy before something else.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Background, Program, find_program};
use crate::scratch::scratch;
use crate::tree::{make_dir, write};

/// A running nginx; gone on drop.
#[derive(Debug)]
pub struct Nginx {
    port: u16,
    dir: TempDir,
    server: Background,
}

impl Nginx {
    /// Serves a folder's files.
    #[must_use]
    pub fn files(root: &Path) -> Self {
        Self::with_server_lines(&format!("root {};", root.display()))
    }

    /// Passes everything on to another server (`http://127.0.0.1:5000`).
    #[must_use]
    pub fn proxy(upstream: &str) -> Self {
        Self::with_server_lines(&format!(
            "location / {{ proxy_pass {upstream}; proxy_http_version 1.1; proxy_buffering off; }}"
        ))
    }

    /// Answers everything with one status.
    #[must_use]
    pub fn always(status: u16) -> Self {
        Self::with_server_lines(&format!("location / {{ return {status}; }}"))
    }

    /// A server block with these lines beside its `listen`.
    ///
    /// # Panics
    /// When nginx is missing or refuses the lines.
    #[must_use]
    pub fn with_server_lines(lines: &str) -> Self {
        Self::with_server("master_process off;", lines)
    }

    /// Runs what stands within `http {}`: server blocks which name their ports; `port` is one of them
    /// on 127.0.0.1.
    ///
    /// # Panics
    /// When nginx is missing or refuses the text.
    #[must_use]
    pub fn with_http_lines(lines: &str, port: u16) -> Self {
        Self::start("master_process off;", lines, port)
    }

    /// Serves a folder's files as fast as nginx can: a worker for each core, files handed over by the
    /// kernel and kept open, no log.
    #[must_use]
    pub fn fastest(root: &Path) -> Self {
        let lines = format!(
            "root {}; access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
             keepalive_requests 1000000; open_file_cache max=200000 inactive=10m;
             open_file_cache_valid 10m; open_file_cache_errors on;",
            root.display()
        );
        Self::with_server("worker_processes auto;", &lines)
    }

    fn with_server(processes: &str, lines: &str) -> Self {
        let port = free_port();
        let server = format!("server {{ listen 127.0.0.1:{port};\n{lines}\n}}");
        Self::start(processes, &server, port)
    }

    fn start(processes: &str, lines: &str, port: u16) -> Self {
        let dir = scratch("nginx");
        make_dir(&dir.path().join("temp"));
        let temp = dir.path().join("temp").display().to_string();
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temps: String =
            kinds.iter().map(|kind| format!("{kind}_temp_path {temp}/{kind};\n")).collect();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let conf = format!(
            "daemon off; {processes} pid {temp}/pid; error_log stderr notice; {user}\n\
             events {{ worker_connections 512; }}\n\
             http {{ {temps} default_type application/octet-stream; client_max_body_size 0;\n\
             log_format sample '$request_method $request_uri $status $body_bytes_sent';\n\
             access_log {log} sample;\n\
             {lines}\n}}\n",
            log = dir.path().join("access.log").display(),
        );
        let file = dir.path().join("nginx.conf");
        write(&file, conf);
        let mut server = Program::new(find_program("nginx")).arg("-c").arg(&file).spawn();
        server.wait_for_port(&format!("127.0.0.1:{port}"));
        Self { port, dir, server }
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked so far, a request a line: `GET /nix-cache-info 200 57` (the last is the body's bytes sent).
    #[must_use]
    pub fn access_log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.access_log_path()).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Stops it: from now on its port refuses connections.
    pub fn stop(&mut self) {
        self.server.kill();
    }

    fn access_log_path(&self) -> PathBuf {
        self.dir.path().join("access.log")
    }
}

/// A port on 127.0.0.1 that nothing listens on now.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    free_port_at("127.0.0.1")
}

/// The same of another address of this machine.
///
/// # Panics
/// When the address is not this machine's.
pub(crate) fn free_port_at(address: &str) -> u16 {
    let listener = std::net::TcpListener::bind((address, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
