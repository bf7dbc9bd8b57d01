//! Every file of the corpus goes through its target, so what fuzzing once found stays found.

use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_file_of_the_corpus_passes_its_target() {
    for (name, target) in larder_fuzz::TARGETS {
        let files = std::fs::read_dir(corpus().join(name)).unwrap();
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count > 1, "the corpus of {name} is empty");
    }
}

/// Or the whole server would only ever be seen to refuse.
#[test]
fn the_requests_of_the_corpus_reach_what_is_there() {
    for (name, statuses) in [
        ("narinfo", ["200"].as_slice()),
        ("nar", &["200", "200"]),
        ("part", &["206"]),
        ("packed", &["200", "200", "404", "404"]),
        ("empty", &["200"]),
        ("folder", &["200", "307"]),
        ("index", &["200"]),
        ("landing", &["200"]),
        ("fleet", &["200", "404", "404"]),
        ("realisation", &["200", "200"]),
        ("log", &["200", "200"]),
        ("post", &["405", "200"]),
        ("tls", &["400"]),
    ] {
        let bytes = std::fs::read(corpus().join("request").join(name)).unwrap();
        let answers = larder_fuzz::server::answers(&bytes);
        let answers = String::from_utf8_lossy(&answers);
        let lines = answers.split("HTTP/1.").skip(1);
        let told: Vec<&str> = lines.filter_map(|line| line.get(2..5)).collect();
        assert_eq!(told, statuses, "{name}: {answers}");
    }
}

/// Or no upload would ever get beyond the door.
#[test]
fn the_uploads_of_the_corpus_are_taken_or_refused_for_what_they_are() {
    for (name, statuses) in [
        ("plain", ["201", "201"].as_slice()),
        ("xz", &["201", "201"]),
        ("chunked", &["201", "201"]),
        ("wrong_hash", &["400", "409"]),
        ("no_nar", &["409"]),
        ("lying_size", &["201", "400"]),
        ("missing_reference", &["201", "409"]),
        ("bomb", &["413"]),
        ("no_token", &["401"]),
    ] {
        let bytes = std::fs::read(corpus().join("upload").join(name)).unwrap();
        let answers = larder_fuzz::upload::answers(&bytes);
        let answers = String::from_utf8_lossy(&answers);
        let lines = answers.split("HTTP/1.").skip(1);
        let told: Vec<&str> = lines.filter_map(|line| line.get(2..5)).collect();
        assert_eq!(told, statuses, "{name}: {answers}");
    }
}

#[test]
fn every_target_has_a_program_and_every_folder_a_target() {
    let names: Vec<_> = larder_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).unwrap();
        let stem = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()
        };
        let mut stems: Vec<_> = entries.map(stem).collect();
        stems.sort();
        stems
    };
    assert_eq!(stems(corpus()), names);
    assert_eq!(stems(corpus().with_file_name("fuzz_targets")), names);
}
