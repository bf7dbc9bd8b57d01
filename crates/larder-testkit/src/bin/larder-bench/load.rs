//! The load: wrk, walking over a list of paths.

use larder_testkit::{
    process::{Program, find_program},
    scratch::scratch,
};

use crate::SECONDS;

/// What is asked for, and how often at once.
pub(crate) struct Load {
    pub(crate) paths: Vec<String>,
    pub(crate) connections: u32,
}

/// What one round came to.
pub(crate) struct Measured {
    pub(crate) requests_per_second: f64,
    pub(crate) bytes_per_second: f64,
}

/// wrk's own summary is for people; this one is for us. An answer that is not a success would make the
/// fastest server of all.
const SCRIPT: &str = r#"
local i = 0
function request() i = i % #paths + 1; return wrk.format("GET", paths[i]) end
function done(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
  io.write(string.format("RESULT %f %f %d\n", summary.requests / summary.duration * 1e6,
    summary.bytes / summary.duration * 1e6, bad))
end
"#;

impl Load {
    pub(crate) fn run(&self, base: &str) -> Measured {
        let folder = scratch("bench");
        let script = folder.path().join("load.lua");
        let paths: Vec<String> = self.paths.iter().map(|path| format!("{path:?}")).collect();
        let text = format!("local paths = {{ {} }}\n{SCRIPT}", paths.join(", "));
        std::fs::write(&script, text).expect("the script can be written");
        let finished = Program::new(find_program("wrk"))
            .args(["--threads", "1", "--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{SECONDS}s"), "--timeout", "30s", "--script"])
            .arg(&script)
            .arg(base)
            .run()
            .success();
        let result = finished.stdout.lines().find_map(|line| line.strip_prefix("RESULT "));
        let numbers: Vec<f64> = result
            .unwrap_or_else(|| panic!("wrk says nothing: {}", finished.stdout))
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        assert!(numbers[2] == 0.0, "{base} answered badly {} times", numbers[2]);
        Measured { requests_per_second: numbers[0], bytes_per_second: numbers[1] }
    }
}
