//! Passwords' hashes are found as real programs make them.

use larder_cache::secrets::Kind;
use larder_testkit::process::{Program, locate};

use super::{found, only};

#[track_caller]
fn is_found(hash: &str) {
    let hash = hash.trim();
    let entry = format!("root:{hash}:19000:0:99999:7:::\n");
    let finding = only(&entry);
    assert_eq!((finding.kind, finding.offset), (Kind::PasswordHash, 5), "{entry}");
    for (before, after) in [("\"", "\";"), ("'", "'"), ("hash=", "\n"), ("x:", ""), ("", "\\n")] {
        assert_eq!(only(format!("{before}{hash}{after}")).fingerprint, finding.fingerprint);
    }
}

#[test]
fn what_openssl_makes_of_a_password_is_found() {
    let Some(openssl) = locate("openssl") else { return };
    for scheme in ["-1", "-apr1", "-5", "-6"] {
        for word in ["secret", "x", "a much longer password than most people have"] {
            is_found(&Program::new(&openssl).args(["passwd", scheme, word]).run().success().stdout);
        }
    }
}

#[test]
fn what_the_systems_crypt_makes_of_a_password_is_found() {
    let Some(perl) = locate("perl") else { return };
    let settings = [
        "$1$saltsalt",
        "$5$saltsaltsaltsalt",
        "$5$rounds=1000$salt",
        "$6$saltsaltsaltsalt",
        "$6$rounds=1000$salt",
        "$2a$04$N9qo8uLOickgx2ZMRZoMye",
        "$2b$04$N9qo8uLOickgx2ZMRZoMye",
        "$2y$04$N9qo8uLOickgx2ZMRZoMye",
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1",
        "$gy$j9T$F5Jx5fExrKuPp53xLKQ..1",
        "$7$CU..../....2Q9obwLhin8qvQl6sisAO/",
        "$sha1$24$saltsalt",
        "$md5,rounds=1$saltsalt$",
        "$3$",
    ];
    let mut made = 0;
    for setting in settings {
        for word in ["secret", "correct horse", "hunter2", "x", ""] {
            let script = "print crypt($ARGV[0], $ARGV[1])";
            let hash = Program::new(&perl).args(["-e", script, word, setting]).run().success();
            // Which of them there are is the system's choice: a refusal begins with a star.
            if !hash.text().is_empty() && !hash.text().starts_with('*') {
                is_found(hash.text());
                made += 1;
            }
        }
    }
    assert!(made > 0);
}

#[test]
fn a_hash_that_is_cut_short_shown_by_its_form_or_none_is_not_found() {
    let texts = [
        "root:!:19000::::::",
        "root:*:19000::::::",
        "root:$6$salt$...:19000",
        "$6$<salt>$<hash>",
        "$6$rounds=656000$YQKMBktawK6V4zoe$",
        "users.users.root.hashedPassword = \"$6$...\";",
        "$y$j9T$WFoiErKnEnMcGq0ruQK4K.$",
        "$2b$12$xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "$2y$05$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyza",
        "awk '{print $1$2$someVariableNameIsHereLong}'",
        "sed 's/$1$foo$ThisIsNotAPasswordHash/'",
        "$md5$x = md5($1$2$3$4$5$6$7);",
        "^\\$6\\$[./0-9A-Za-z]{1,16}\\$[./0-9A-Za-z]{86}$",
    ];
    for text in texts {
        assert_eq!(found(text), [], "{text}");
    }
}
