//! The command line: arguments in, exit status out.

use std::{
    io::{IsTerminal, Write},
    num::NonZero,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{
    command::{
        build, builders, cache, check, config, gc, hook, init, key, notify, pin, proxy, push,
        report as report_of_run, schedule, serve, token, upgrade, why,
    },
    config::DEFAULT_PATH,
    context::Context,
    lifecycle::{HangUp, Signals},
    report::{self, Done, Error},
};

/// A build server, binary cache and client for a NixOS fleet
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, infer_subcommands = false)]
pub struct Cli {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", env = "LARDER_CONFIG", hide_env_values = true, help_heading = "Options of every command", default_value = DEFAULT_PATH)]
    config: PathBuf,

    /// What to log, as tracing's filters say it: `debug`, `warn,larder_web=trace`
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "LARDER_LOG",
        hide_env_values = true,
        help_heading = "Options of every command",
        default_value = QUIET_ENOUGH
    )]
    log: String,

    #[command(subcommand)]
    command: Command,
}

/// The library that signs requests to buckets tells of every place in which it finds no keys, and we say it once.
const QUIET_ENOUGH: &str = "info,reqsign=off,reqsign_core=off";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Build(build::Arguments),
    Schedule(schedule::Arguments),
    Builders(builders::Arguments),
    Check(check::Arguments),
    Report(report_of_run::Arguments),
    Notify(notify::Arguments),
    Upgrade(upgrade::Arguments),
    Why(why::Arguments),
    Proxy(proxy::Arguments),
    Push(push::Arguments),
    Hook(hook::Arguments),
    Pin(pin::Arguments),
    Gc(gc::Arguments),
    Cache(cache::Arguments),
    Token(token::Arguments),
    Key(key::Arguments),
    Config(config::Arguments),
    Init(init::Arguments),
}

/// The program, from its arguments to its exit status.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter = match EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(error) => return complain(&format!("`--log {}`: {error}", cli.log), 2),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A log that nobody reads any more is no reason to stop: telling so would fail just as well, by a
        // panic of whoever logs.
        .log_internal_errors(false)
        .init();
    // The only one there is; a second installation would be a second start of the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Twice as many as cores: while some send large NARs, the system lets another look who else is there.
    // A narinfo then waits for microseconds and not for the chunks that are being sent.
    let threads = 2 * std::thread::available_parallelism().map_or(2, NonZero::get);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start: {error}"), 1),
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(done) => ExitCode::from(report::status(done)),
        Err(error) => complain(&error.to_string(), report::failure(&error)),
    }
}

async fn dispatch(cli: Cli) -> Result<Done, Error> {
    let hang_up = match &cli.command {
        Command::Serve(_) => HangUp::Reloads,
        Command::Proxy(arguments) if arguments.is_served() => HangUp::Reloads,
        _ => HangUp::Stops,
    };
    let signals = Signals::listen(hang_up)
        .map_err(|source| Error::Io { path: PathBuf::from("signals"), source })?;
    let context = Context::new(cli.config, signals);
    let done = match cli.command {
        Command::Serve(arguments) => serve::run(&context, &arguments).await,
        Command::Build(arguments) => build::run(&context, &arguments).await,
        Command::Schedule(arguments) => schedule::run(&context, &arguments).await,
        Command::Builders(arguments) => builders::run(&context, &arguments).await,
        Command::Check(arguments) => check::run(&context, &arguments).await,
        Command::Report(arguments) => report_of_run::run(&context, &arguments),
        Command::Notify(arguments) => notify::run(&context, &arguments).await,
        Command::Upgrade(arguments) => upgrade::run(&context, &arguments).await,
        Command::Why(arguments) => why::run(&context, &arguments).await,
        Command::Proxy(arguments) => proxy::run(&context, &arguments).await,
        Command::Push(arguments) => push::run(&context, &arguments).await,
        Command::Hook(arguments) => Ok(hook::run(&context, &arguments)),
        Command::Pin(arguments) => pin::run(&context, &arguments).await,
        Command::Gc(arguments) => gc::run(&context, &arguments).await,
        Command::Cache(arguments) => cache::run(&context, &arguments).await,
        Command::Token(arguments) => token::run(&context, &arguments).await,
        Command::Key(arguments) => key::run(&context, &arguments).await,
        Command::Config(arguments) => config::run(&context, &arguments),
        Command::Init(arguments) => init::run(&context, &arguments),
    };
    // Whatever was under way when the program was told to stop then failed, which says nothing.
    done.map_err(|error| if context.cancel.is_cancelled() { error.cancelled() } else { error })
}

fn complain(text: &str, status: u8) -> ExitCode {
    // Without a standard error there is nobody to complain to.
    let _ = writeln!(std::io::stderr(), "larder: {text}");
    ExitCode::from(status)
}
