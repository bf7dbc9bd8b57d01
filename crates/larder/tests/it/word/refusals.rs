//! Receivers that refuse, and secrets, which nobody is shown.

use std::{fs, os::unix::fs::PermissionsExt};

use larder_testkit::NixVersion;

use super::receiver::{Behaviour, Receiver};
use crate::build_server::{BuildServer, SmallFleet};

/// A server whose fleet does not build, with receivers.
fn failing(receivers: &str) -> BuildServer {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = fleet.set_hosts(&[("alpha", "exit 1;")]);
    server.also(receivers);
    server
}

fn secret(server: &BuildServer, name: &str, text: &str) -> String {
    let file = server.store.work_dir().join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

#[test]
fn what_is_refused_is_told_with_the_remedy_and_tried_again_with_the_next_run_only() {
    let receiver = Receiver::that(Behaviour::Says("404 Not Found"));
    let server = failing(&format!(
        "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = {:?}\n",
        receiver.url("/")
    ));
    let run = server.build(&[]);
    assert_eq!(run.code(), 3, "{run}");
    let told =
        "hook cannot be told: the receiver says 404 Not Found: see whether the address is right";
    assert!(run.stderr.contains(told), "{run}");
    assert_eq!(receiver.taken().len(), 1);
    receiver.now(Behaviour::Says("200 OK"));
    assert_eq!(server.build(&[]).code(), 3);
    let told = receiver.took_one();
    assert_eq!(told["events"][0]["event"], "host-failed", "what it was not told still holds");
    assert_eq!(server.build(&[]).code(), 3);
    assert_eq!(receiver.taken().len(), 0);
}

#[test]
fn secrets_go_to_the_receiver_and_nowhere_else() {
    let (token, path) = ("hidden-token-93", "/services/hidden-path-47");
    for behaviour in
        [Behaviour::Says("403 Forbidden"), Behaviour::Says("500 Oh"), Behaviour::Closes]
    {
        let receiver = Receiver::that(behaviour);
        let server = failing("");
        let url = secret(&server, "url", &format!("{}\n", receiver.url(path)));
        let token_file = secret(&server, "token", token);
        server.also(&format!(
            "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl-file = {url:?}\ntoken-file = {token_file:?}\n"
        ));
        let log = ["--log", "trace"];
        let runs = [
            server.build(&log),
            server.larder(&["notify", "test"]).args(log).run(),
            server.larder(&["config", "check"]).args(log).run(),
        ];
        assert_eq!(runs[1].code(), 3, "{}", runs[1]);
        for run in &runs {
            let all = format!("{}{}", run.stdout, run.stderr);
            // What hyper and its like trace of a connection is theirs, and only told who asks for it.
            let ours: String = all
                .lines()
                .filter(|line| !line.contains("TRACE") && !line.contains("DEBUG"))
                .collect();
            assert!(!ours.contains("hidden-"), "{run}");
        }
        let requests = receiver.taken();
        assert!(requests.len() >= 2, "{requests:?}");
        for request in requests {
            assert_eq!(request.header("authorization"), Some(&*format!("Bearer {token}")));
            assert_eq!(request.line, format!("POST {path} HTTP/1.1"));
        }
        for entry in fs::read_dir(server.state_dir().join("notices/hook")).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains("hidden-"), "{text}");
        }
    }
}

#[test]
fn a_token_is_sent_nowhere_else() {
    let other = Receiver::that_takes_all();
    let receiver = Receiver::that(Behaviour::Redirects(other.url("/")));
    let server = failing("");
    let token_file = secret(&server, "token", "hidden");
    server.also(&format!(
        "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = {:?}\ntoken-file = {token_file:?}\n",
        receiver.url("/")
    ));
    let test = server.larder(&["notify", "test", "hook"]).run();
    assert_eq!(test.code(), 3, "{test}");
    assert!(test.stdout.contains("write the address that it redirects to"), "{test}");
    assert_eq!(other.taken().len(), 0);
}

#[test]
fn secrets_that_others_can_read_are_refused_and_the_message_waits() {
    let receiver = Receiver::that_takes_all();
    let server = failing("");
    let url = secret(&server, "url", &receiver.url("/"));
    fs::set_permissions(&url, fs::Permissions::from_mode(0o644)).unwrap();
    server.also(&format!("[[notify]]\nname = \"hook\"\nkind = \"slack\"\nurl-file = {url:?}\n"));
    let check = server.larder(&["config", "check"]).run().failure();
    assert!(check.stderr.contains("chmod 600"), "{check}");
    let run = server.build(&[]);
    assert!(
        run.stderr.contains("hook is told later: ") && run.stderr.contains("chmod 600"),
        "{run}"
    );
    assert_eq!(receiver.taken().len(), 0);
    fs::set_permissions(&url, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(server.build(&[]).code(), 3);
    assert_eq!(receiver.taken().len(), 1);
}

#[test]
fn a_test_message_goes_to_each_receiver_and_it_is_said_how_that_went() {
    let (good, bad) =
        (Receiver::that_takes_all(), Receiver::that(Behaviour::Says("502 Bad Gateway")));
    let server = failing(&format!(
        "[[notify]]\nname = \"good\"\nkind = \"ntfy\"\nurl = {:?}\n[[notify]]\nname = \"bad\"\nkind = \"discord\"\n\
         url = {:?}\n[[notify]]\nname = \"gone\"\nkind = \"command\"\ncommand = [\"/nowhere/sendmail\"]\n",
        good.url("/fleet"),
        bad.url("/")
    ));
    let test = server.larder(&["notify", "test"]).run();
    assert_eq!(test.code(), 3, "{test}");
    let told = "good: took the message\nbad: the receiver says 502 Bad Gateway\n\
                gone: cannot find the program `/nowhere/sendmail`: install it, or add its folder to PATH: \
                write its whole path in `command`";
    assert_eq!(test.stdout.trim(), told);
    assert_eq!(good.taken()[0].json()["topic"], "fleet");
    let one = server.larder(&["notify", "test", "good"]).run().success();
    assert_eq!(one.text(), "good: took the message");
    let none = server.larder(&["notify", "test", "nobody"]).run().failure();
    assert!(none.stderr.contains("good, bad, gone"), "{none}");
}
