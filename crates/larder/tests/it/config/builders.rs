//! Builders are told apart by name and host, and nothing of them can be taken for something else.

use insta::assert_snapshot;

use super::{parse, problems};

#[test]
fn problems_of_a_builder_say_which_one_it_is() {
    assert_snapshot!(problems(
        r#"[[builder]]
name = "opi01"
systems = ["aarch64-linux", "riscv64-linux"]
emulated = ["x86_64-linux"]
jobs = 3

[[builder]]
name = "opi01"
host = "-oProxyCommand=id"
user = "root;id"
key = "~/.ssh/id"
host-key = "ssh-ed25519 AAAA\nother"
systems = ["a,b", "-"]

[[builder]]
host = "Opi02.internal"
systems = []
port = 0
max-jobs = 0

[[builder]]
name = "here"
host = "localhost"
systems = ["x86_64-linux"]
features = ["big parallel"]

[[builder]]
name = "opi04"
host = "opi01"
systems = ["x86_64-linux"]
"#
    ));
}

#[test]
fn a_builder_of_two_lines_has_the_rest_by_default() {
    let text = "[[builder]]\nname = \"opi01\"\nsystems = [\"aarch64-linux\"]\n";
    let builders = parse(text).builders;
    let [builder] = builders.as_slice() else { panic!("{builders:?}") };
    assert_eq!(builder.uri(), "ssh://opi01");
    assert_eq!(builder.jobs(), 1);
    assert!(builder.key.is_none() && builder.host_key.is_none() && builder.emulated.is_empty());
}
