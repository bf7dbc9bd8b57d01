//! Many clients that ask without pause, while the server is told to reload, or to stop.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use larder_testkit::{NixVersion, TestStore, Tree, tree::random_bytes};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::{
    http::{self, Answer},
    http2::whole,
    reload::reload,
    secure::{Authority, Secure},
    support::{Key, nix_dump, parse, signing},
};

/// What is asked, and every right answer to it.
type Right = Vec<(String, BTreeSet<Vec<u8>>)>;

/// Clients, how they come, and what they need to know.
struct Load<'a> {
    plain: &'a str,
    tls: &'a str,
    authority: &'a Authority,
    right: &'a Right,
    done: &'a AtomicBool,
    answered: &'a AtomicUsize,
}

impl Load<'_> {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// What is asked next.
    fn next(&self, n: usize) -> &(String, BTreeSet<Vec<u8>>) {
        &self.right[n % self.right.len()]
    }

    fn check(&self, n: usize, body: &[u8]) {
        let (target, right) = self.next(n);
        assert!(right.contains(body), "{target}: {}", String::from_utf8_lossy(body));
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection for each request. Told to stop, the server refuses; what it has begun is whole.
    fn anew(&self, stopping: bool) {
        for n in 0.. {
            if self.is_done() {
                return;
            }
            let stream = std::net::TcpStream::connect(self.plain);
            if stopping && stream.is_err() {
                return;
            }
            let mut stream = stream.unwrap();
            stream.write_all(&http::message("GET", &self.next(n).0, &[])).unwrap();
            let bytes = http::rest(&mut stream);
            let answer = Answer::parse(&bytes, false).expect("who was connected is answered");
            assert!(answer.status == 200 && answer.complete);
            self.check(n, &answer.body);
        }
    }

    /// One connection for all requests. Only between two of them may it end, and only when the server stops.
    fn kept(&self, mut stream: impl Read + Write, stopping: bool) {
        for n in 0.. {
            if self.is_done() {
                return;
            }
            let ask = format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", self.next(n).0);
            let sent = stream.write_all(ask.as_bytes());
            match sent.and_then(|()| answer(&mut stream)) {
                Ok(Some(body)) => self.check(n, &body),
                ended => {
                    assert!(stopping, "{ended:?} at {n}");
                    return;
                }
            }
        }
    }

    /// Two answers at once over one connection of HTTP/2, which may end as above.
    async fn streams(&self, stopping: bool) {
        let settings = h2::client::Builder::new();
        let mut client = self.authority.http2(self.tls, &settings).await;
        for n in 0.. {
            if self.is_done() {
                return;
            }
            let mut begun = Vec::new();
            for n in [n, n + 1] {
                let target = format!("https://localhost{}", self.next(n).0);
                let request = axum::http::Request::get(target).body(()).unwrap();
                let answer = match client.send_request(request, true) {
                    Ok((answer, _)) => answer.await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(answer) => {
                        assert_eq!(answer.status(), 200);
                        begun.push((n, answer.into_body()));
                    }
                    Err(error) => assert!(stopping, "{error}"),
                }
            }
            let ended = begun.len() < 2;
            // What has begun is whole, stop or no stop.
            let all = begun.into_iter().map(async |(n, body)| (n, whole(body).await));
            for (n, body) in futures::future::join_all(all).await {
                self.check(n, &body);
            }
            if ended {
                return;
            }
        }
    }

    /// Sixteen clients of five kinds; what goes wrong for one of them panics.
    fn run(&self, stopping: bool, meanwhile: impl FnOnce()) {
        let runtime = Runtime::new().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| self.anew(stopping));
                scope.spawn(|| self.kept(http::connect(self.plain), stopping));
                scope.spawn(|| self.kept(self.authority.connect(self.tls), stopping));
                scope.spawn(|| runtime.block_on(self.streams(stopping)));
            }
            let all_kinds = 16 * self.right.len();
            while self.answered.load(Ordering::Relaxed) < all_kinds {
                std::thread::yield_now();
            }
            meanwhile();
            self.done.store(true, Ordering::Relaxed);
        });
    }
}

/// The body of the next answer on a connection; none when it has ended before one began.
fn answer(stream: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1..) => head.push(byte[0]),
            ended if head.is_empty() => return ended.map(|_| None),
            ended => panic!("cut short in its head: {ended:?}"),
        }
    }
    let answer = Answer::parse(&head, true).unwrap();
    assert_eq!(answer.status, 200);
    let length = answer.header("content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("an answer that has begun is whole");
    Ok(Some(body))
}

/// A store, what is asked of it, and a server.
struct World {
    store: TestStore,
    targets: Vec<String>,
    nars: Vec<(String, Vec<u8>)>,
    secure: Secure,
}

impl World {
    fn new() -> Self {
        let store = TestStore::new(NixVersion::V2_34);
        let paths: Vec<String> = (0..3)
            .map(|n| {
                let tree = Tree::new().file("f", random_bytes(n, 400_000));
                store.add_tree(&format!("p{n}"), &tree)
            })
            .collect();
        let secure = Secure::of(&store);
        let infos = paths.iter().map(|path| format!("/{}.narinfo", parse(path).hash()));
        let targets = infos.chain(["/nix-cache-info".to_owned()]).collect();
        let nars =
            paths.iter().map(|path| (secure.server.nar_target(path), nix_dump(&store, path)));
        let nars = nars.collect();
        Self { store, targets, nars, secure }
    }

    /// What is answered now to each target.
    fn answers(&self) -> Vec<Vec<u8>> {
        let ask = |target: &String| http::get(self.secure.server.address(), target).body;
        self.targets.iter().map(ask).collect()
    }

    fn right(&self, configurations: &[Vec<Vec<u8>>]) -> Right {
        let texts = self.targets.iter().enumerate().map(|(n, target)| {
            (target.clone(), configurations.iter().map(|answers| answers[n].clone()).collect())
        });
        let nars = self.nars.iter().map(|(target, nar)| (target.clone(), [nar.clone()].into()));
        texts.chain(nars).collect()
    }
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn twenty_reloads_under_load_lose_no_answer() {
    let mut world = World::new();
    let keys = [1, 2].map(|n| Key::new(&world.store.work_dir(), &format!("cache-{n}"), n));
    let tls = format!("tls-listen = [\"127.0.0.2:0\"]\n{}", world.secure.authority.setting());
    let configurations = [
        format!("priority = 10\n{}\n{tls}", signing(&[&keys[0]])),
        format!(
            "listen = [\"127.0.0.1:0\", \"127.0.0.3:0\"]\npriority = 20\n{}\n{tls}",
            signing(&[&keys[1]])
        ),
    ];
    let expected = configurations.each_ref().map(|lines| {
        reload(&mut world.secure.server, &world.store, lines);
        world.answers()
    });
    assert!(expected[0].iter().zip(&expected[1]).all(|(one, other)| one != other));
    let right = world.right(&expected);
    let World { store, secure: Secure { server, authority, address: tls }, .. } = &mut world;
    let plain = server.address().to_owned();
    let pid = server.process().pid();
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (done, answered) = (&done, &answered);
    let load = Load { plain: &plain, tls, authority, right: &right, done, answered };
    let mut files = Vec::new();
    load.run(false, || {
        for n in 0..20 {
            let before = answered.load(Ordering::Relaxed);
            reload(server, store, &configurations[n % 2]);
            while answered.load(Ordering::Relaxed) < before + 50 {
                std::thread::yield_now();
            }
        }
    });
    for lines in configurations.iter().cycle().take(6) {
        reload(server, store, lines);
        let answer = http::get(&plain, "/health");
        assert_eq!(answer.status, 200);
        files.push(open_files(pid));
    }
    assert!(files[4] <= files[0] + 2, "each reload leaves files open: {files:?}");
    let log = server.process().output();
    assert!(!log.contains("not reloaded") && !log.contains("panicked"), "{log}");
}

#[test]
fn a_stop_under_load_cuts_no_answer_that_has_begun() {
    let mut world = World::new();
    let answers = world.answers();
    let right = world.right(&[answers]);
    let Secure { server, authority, address: tls } = &mut world.secure;
    let plain = server.address().to_owned();
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (done, answered) = (&done, &answered);
    let load = Load { plain: &plain, tls, authority, right: &right, done, answered };
    load.run(true, || {
        server.process().signal(Signal::TERM);
        assert_eq!(server.process().wait(Duration::from_secs(30)), 0);
    });
    assert!(!server.process().output().contains("cut short"));
}
