//! docs/commands.md says what the program says of itself.

use std::{fmt::Write, path::Path};

use clap::CommandFactory;

/// What no help text says.
const EXIT_CODES: &str = "\
## Exit status

| status | meaning |
| --- | --- |
| 0 | everything is as it should be |
| 1 | the command could not do what it was to do; the message says why |
| 2 | the command line is wrong |
| 3 | some hosts failed (`build`, `check`), some paths did not verify (`key verify`), something is wrong (`cache check`, `pin list`), stays wrong (`cache repair`) could not be removed (`gc`), or would have to be built or could not be downloaded (`upgrade`, `why`), or no server goes by the schedules (`schedule`); the report says which |
| 4 | the system is switched, but something needs a look: failed units, or it takes effect after a reboot |
| 5 | refused: the server's answer is not signed by the fleet, is for another host, has expired, is older than what was accepted before, or what was downloaded is not what was signed |
| 75 | another run is under way: a build (or `build --cancel` could not end it), or somebody else's look at the same cache from this machine |
| 130 | cancelled by SIGINT, SIGTERM or SIGHUP; what was built so far is kept |
";

fn reference() -> String {
    let mut page = String::from(
        "# Commands\n\nGenerated from the program itself. Progress and messages go to standard error, results to \
         standard output.\n",
    );
    let mut program = larder::cli::Cli::command().term_width(100);
    program.build();
    for command in program.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let help = command.render_long_help();
        write!(
            page,
            "\n## larder {}\n\n```text\n{}\n```\n",
            command.get_name(),
            help.to_string().trim()
        )
        .unwrap();
        for nested in command.get_subcommands_mut().filter(|nested| nested.get_name() != "help") {
            let help = nested.render_long_help();
            write!(page, "\n```text\n{}\n```\n", help.to_string().trim()).unwrap();
        }
    }
    page.push('\n');
    page.push_str(EXIT_CODES);
    page
}

#[test]
fn the_reference_in_docs_is_the_generated_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    #[expect(clippy::disallowed_methods, reason = "how a person asks the test to write the page")]
    let bless = std::env::var_os("LARDER_BLESS").is_some();
    if bless {
        std::fs::write(&page, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(
        written == reference(),
        "docs/commands.md is out of date: LARDER_BLESS=1 cargo test -p larder"
    );
}
