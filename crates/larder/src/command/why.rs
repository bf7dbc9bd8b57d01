//! `larder why`

use larder_cache::storage::Location;
use larder_fleet::{
    revision::Circumstances as Believing,
    upgrade::{self, Offer},
    why::{self, Asking, Circumstances, Comparison, Role, Source, Subject, Verdict, Walk, Walked},
};
use larder_formats::{
    signature::PublicKey,
    store_path::{StoreDir, StorePath},
};
use larder_nix::{
    command::CommandError,
    database::Database,
    nix::{Nix, NixError},
    remembered::{Memories, MemoryError},
    settings::{InForce, Peer},
};

use crate::{
    clock,
    config::{Config, Server},
    context::{Context, say},
    environment,
    report::{Done, Error},
    roots,
    view::{self, why::Explanation},
    wiring::{self, why::Opening},
};

/// Tell why something is built or downloaded here
///
/// Asks every cache that Nix asks here, and those of Larder's configuration, what each has of it; compares with what
/// the server built; and says what would change that. Builds and changes nothing; of an installable, Nix fetches the
/// inputs and writes the derivations, as with every evaluation.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A store path, a derivation, a link to one, or an installable such as `.#hello`
    what: String,

    /// Compare with this derivation, or with what this path is made of, instead of what the server built
    #[arg(long, value_name = "PATH")]
    against: Option<String>,

    /// Ask this cache as well
    #[arg(long, value_name = "URL")]
    cache: Vec<String>,

    /// Print it for programs
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    tokio::select! {
        done = explain(context, arguments) => done,
        () = context.cancel.cancelled() => Err(Error::Cancelled),
    }
}

async fn explain(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    let nix = match wiring::nix(&config, &context.cancel).await {
        Err(error) => return Ok(told(arguments, refused(&config, &arguments.what, error)?)),
        Ok(nix) => nix,
    };
    let database = database(&nix);
    let what = meant(context, &nix, database.as_ref(), &arguments.what).await?;
    let (in_force, peer) = in_force(context, &nix).await?;
    let (memories, memory_unknown) = match memories(peer) {
        Ok(memories) => (memories, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let asking = asking(context, &config, &nix, (&in_force, memories), &arguments.cache).await?;
    let circumstances = circumstances(&in_force);
    let layout = nix.layout();
    let walk = Walk {
        layout,
        database: database.as_ref(),
        asking: &asking,
        circumstances: &circumstances,
    };
    let walked = match &what {
        Meant::Derivation(derivation) => walk.derivation(derivation).await?,
        Meant::Path(path) => found_alone(walk.path(path).await),
    };
    let server = match &what {
        Meant::Derivation(here) if !walked.subject.is_well() => {
            Some(compared(context, (&config, &nix, &asking), here, arguments).await?)
        }
        _ => None,
    };
    let through_daemon = matches!(peer, Peer::Daemon(_));
    let explanation = Explanation::new(walked, server, through_daemon);
    let memory_unknown = memory_unknown.or_else(|| asking.forgotten());
    Ok(told(arguments, Explanation { memory_unknown, ..explanation }))
}

fn told(arguments: &Arguments, explanation: Explanation) -> Done {
    say(&match arguments.json {
        true => view::why::json(&explanation),
        false => view::why::explanation(&explanation),
    });
    if explanation.subject.is_well() { Done::Well } else { Done::SomeFailed }
}

/// What explains it when Nix does not even start: a substituter without a scheme, to 2.34.
fn refused(config: &Config, what: &str, error: Error) -> Result<Explanation, Error> {
    let Error::Nix(NixError::Command(CommandError::Failed { message, .. })) = &error else {
        return Err(error);
    };
    let quoted =
        message.split_once("Cannot parse Nix store '").and_then(|(_, it)| it.split_once('\''));
    let path = named(&wiring::layout(config)?.store_dir, what)?;
    let (Some((substituter, _)), Some(path)) = (quoted, path) else { return Err(error) };
    let verdict = Verdict::NoScheme { substituter: substituter.to_owned(), refuses: true };
    Ok(Explanation::new(found_alone(Subject::unasked(path, verdict)), None, false))
}

/// Nix's database, where this user may read it.
fn database(nix: &Nix) -> Option<Database> {
    let opened = Database::open(nix.layout());
    opened
        .inspect_err(|error| {
            view::note(&format!("{error}. What lies in the store is taken for valid"))
        })
        .ok()
}

/// What is asked about.
enum Meant {
    /// A path that nothing here is known to make.
    Path(StorePath),
    /// What a derivation makes.
    Derivation(StorePath),
}

async fn meant(
    context: &Context,
    nix: &Nix,
    database: Option<&Database>,
    what: &str,
) -> Result<Meant, Error> {
    let path = match named(&nix.layout().store_dir, what)? {
        Some(path) => path,
        None => {
            let command = nix.command("nix").args([
                "path-info",
                "--derivation",
                "--no-write-lock-file",
                "--",
                what,
            ]);
            let answer = command.output(&context.cancel).await?.text();
            let first = answer.lines().next().unwrap_or_default();
            let parsed = nix.layout().store_dir.parse(first);
            parsed.map_err(|error| Error::Path(format!("{what}: {error}")))?
        }
    };
    if path.is_derivation() && nix.layout().real_path(&path).exists() {
        return Ok(Meant::Derivation(path));
    }
    let makers = database.map(|database| database.makers(&path)).transpose()?;
    let maker = makers.into_iter().flatten().find(|maker| nix.layout().real_path(maker).exists());
    Ok(maker.map_or(Meant::Path(path), Meant::Derivation))
}

/// A store path, also without its folder, as messages have it.
fn named(store_dir: &StoreDir, what: &str) -> Result<Option<StorePath>, Error> {
    match what.parse() {
        Ok(path) => Ok(Some(path)),
        Err(_) => roots::store_path(store_dir, what),
    }
}

fn found_alone(subject: Subject) -> Walked {
    Walked { subject, causes: Vec::new(), builds: 0, cut_short: false }
}

/// The settings that hold for what this user asks for, and who does it.
async fn in_force(context: &Context, nix: &Nix) -> Result<(InForce, Peer), Error> {
    let cancel = &context.cancel;
    let own = nix.own_settings(&[], cancel).await?;
    let peer = nix.peer(cancel).await?;
    let Peer::Daemon(trusted) = peer else { return Ok((InForce::own(&own), peer)) };
    let daemon = nix.daemon_settings(cancel).await?;
    let trusted = match trusted {
        Some(trusted) => trusted,
        None => nix.is_trusted_by(&daemon, cancel).await?,
    };
    Ok((InForce::through_daemon(&own, &daemon, trusted), peer))
}

fn circumstances(in_force: &InForce) -> Circumstances {
    let settings = &in_force.settings;
    Circumstances {
        substitute: settings.substitute,
        always_allow_substitutes: settings.always_allow_substitutes,
        trusted_keys: settings.trusted_names().map(str::to_owned).collect(),
        systems: settings.systems.iter().cloned().collect(),
    }
}

/// Whoever may have it: Nix's substituters, those that Larder's configuration names, and what proxies among them ask.
async fn asking<'a>(
    context: &'a Context,
    config: &Config,
    nix: &'a Nix,
    (in_force, memories): (&InForce, Option<Memories>),
    more: &[String],
) -> Result<Asking<'a>, Error> {
    let settings = &in_force.settings;
    let opening = Opening { netrc: Some(&settings.netrc_file), store_dir: &nix.layout().store_dir };
    // One that cannot be read, Nix passes over, too.
    let keys: Vec<PublicKey> =
        settings.trusted_keys.iter().filter_map(|key| key.parse().ok()).collect();
    let keys = settings.require_signatures.then_some(keys);
    let mut sources: Vec<Source> = Vec::new();
    let servers = config.client.servers.iter().filter_map(|server| match server {
        Server::Http(url) => Some(url.to_string()),
        Server::Ssh(_) => None,
    });
    let others = servers.chain(more.iter().cloned()).map(|url| (url, Role::NotConfigured));
    let ignored = in_force.ignored.iter().cloned().map(|url| (url, Role::Ignored));
    let substituters = in_force.substituters.iter().cloned().map(|url| (url, Role::Substituter));
    for (url, role) in substituters.chain(ignored).chain(others) {
        let same = |it: &Source| it.url.trim_end_matches('/') == url.trim_end_matches('/');
        if !sources.iter().any(same) {
            sources.push(opening.source(&url, role, keys.clone()));
        }
    }
    let memory = memories.map(|memories| (memories, settings.absent_for));
    let asking = Asking::begin(nix, sources, memory, clock::now(), &context.cancel).await;
    let open = |name: &str, url: &str, role: Role| {
        let location = url.parse::<Location>().ok();
        let ours = config.proxy.upstreams.iter().find(|upstream| {
            upstream.name == name && location.as_ref().is_some_and(|it| upstream.urls.contains(it))
        });
        match ours {
            Some(ours) => opening.source(url, role, Some(ours.public_keys.clone())),
            None => opening.named_by_another(url, role),
        }
    };
    let upstreams = why::upstreams(asking.sources(), open).await;
    Ok(asking.with(upstreams).await)
}

/// What whoever does it remembers.
fn memories(peer: Peer) -> Result<Option<Memories>, MemoryError> {
    let folder = match peer {
        Peer::Itself => environment::cache_folder(),
        Peer::Daemon(_) => environment::cache_folder_of_root(),
    };
    folder.map_or(Ok(None), |folder| Memories::open(&folder))
}

/// Compares with what the server built.
async fn compared(
    context: &Context,
    (config, nix, asking): (&Config, &Nix, &Asking<'_>),
    here: &StorePath,
    arguments: &Arguments,
) -> Result<Comparison, Error> {
    let built = match &arguments.against {
        Some(path) => named(&nix.layout().store_dir, path)?
            .ok_or_else(|| Error::Path(format!("{path} is no store path")))?,
        None => match published(context, config, nix).await? {
            Ok(built) => built,
            Err(why) => return Ok(Comparison::Unknown { why }),
        },
    };
    Ok(why::compare(nix.layout(), asking, here, &built).await)
}

/// What the server built for this host; or why that is not known.
async fn published(
    context: &Context,
    config: &Config,
    nix: &Nix,
) -> Result<Result<StorePath, String>, Error> {
    let servers = wiring::servers(config);
    if servers.is_empty() {
        return Ok(Err("no server is configured under [client]".to_owned()));
    }
    let host = wiring::host(config)?;
    let here = Believing {
        keys: &config.client.fleet_public_keys,
        host: &host,
        system: &nix.system(&context.cancel).await?,
        store_dir: &nix.layout().store_dir,
        now: clock::now(),
        accepted: None,
        // Only looked at.
        allow_older: true,
    };
    Ok(match upgrade::ask(&servers, &here, &context.cancel).await {
        Ok((_, Offer::Revision(revision))) => Ok(revision.store_path),
        Ok((server, Offer::Nixpkgs(_))) => {
            Err(format!("{server} tells the revision of nixpkgs, and not what came of it"))
        }
        Err(error) => Err(error.to_string()),
    })
}
