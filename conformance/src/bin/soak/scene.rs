//! The processes of a run, and the proxy in front of each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use conformance::fault::{Authority, BrokerProcess, Place, Process, ProcessError, Proxy, Reserved};
use tempfile::TempDir;

use crate::args::{Args, BrokerKind, Transport};
use crate::words::{At, Done, Door, Order, PART, Part, Progress, Publisher, Subscriber, Word};

/// A broker, publishers, subscribers, and the proxies between.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) broker: BrokerProcess,
    pub(crate) publishers: Vec<Peer>,
    pub(crate) subscribers: Vec<Peer>,
    _directory: TempDir,
    /// The broker's, also while it is dead.
    _port: Option<Reserved>,
}

/// A publishing or subscribing process and its proxy.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) process: Process,
    pub(crate) proxy: Proxy,
    pub(crate) progress: Progress,
    pub(crate) ready: bool,
    pub(crate) done: Option<Done>,
}

impl Scene {
    pub(crate) fn start(args: &Args) -> Result<Self, String> {
        let directory = private_directory()?;
        let network = Network::lay(args, directory.path())?;
        let broker = start_broker(args, &network)?;
        let start =
            |name: String, part: &dyn Fn(Door) -> Part| Peer::start(args, &network, name, part);
        let subscribers = (0..args.subscribers).map(|number| {
            let sabotage = args.sabotage.filter(|_| number == 0);
            let part = move |door| {
                Part::Subscriber(Subscriber {
                    door,
                    number,
                    sabotage,
                })
            };
            start(format!("subscriber {number}"), &part)
        });
        let subscribers = subscribers.collect::<Result<_, _>>()?;
        let (topics, payload) = (args.topics, args.payload as usize);
        let publishers = (0..args.publishers).map(|number| {
            let part = move |door| {
                Part::Publisher(Publisher {
                    door,
                    number,
                    topics,
                    payload,
                })
            };
            start(format!("publisher {number}"), &part)
        });
        let publishers = publishers.collect::<Result<_, _>>()?;
        Ok(Self {
            broker,
            publishers,
            subscribers,
            _directory: directory,
            _port: network.port,
        })
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.publishers.iter().chain(&self.subscribers)
    }

    pub(crate) fn peers_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.publishers.iter_mut().chain(&mut self.subscribers)
    }

    /// The peer with this number, subscribers after publishers.
    pub(crate) fn peer(&self, number: usize) -> &Peer {
        let behind = number.checked_sub(self.publishers.len());
        behind.map_or_else(|| &self.publishers[number], |n| &self.subscribers[n])
    }

    /// Hears what everybody has said.
    pub(crate) fn listen(&mut self) -> Result<(), String> {
        self.peers_mut().try_for_each(Peer::listen)
    }

    /// Who waits for what.
    pub(crate) fn dump(&self) -> Vec<String> {
        let mut lines = vec![match self.broker.process() {
            Some(process) => format!("the broker runs as process {}", process.id()),
            None => "the broker does not run".to_owned(),
        }];
        lines.extend(self.peers().map(|peer| {
            let name = peer.process.name();
            let (events, doing) = (peer.progress.events, &peer.progress.doing);
            let doing = if peer.ready { doing } else { "is starting" };
            let connections = peer.proxy.connections();
            format!("{name}: {events} events; {doing}; {connections} connections")
        }));
        lines
    }
}

impl Peer {
    fn start(
        args: &Args,
        network: &Network,
        name: String,
        part: &dyn Fn(Door) -> Part,
    ) -> Result<Self, String> {
        let client = name.replace(' ', "-");
        let proxy = Proxy::start(&network.own(&client), network.broker.clone())
            .map_err(|error| format!("no proxy for {name}: {error}"))?;
        let at = network.at(proxy.place(), &client)?;
        let command = command(&part(door(args, at)))?;
        let process = Process::start(name, command).map_err(|error| error.to_string())?;
        Ok(Self {
            process,
            proxy,
            progress: Progress::default(),
            ready: false,
            done: None,
        })
    }

    pub(crate) fn tell(&mut self, order: &Order) -> Result<(), String> {
        let line = serde_json::to_string(order).map_err(|error| error.to_string())?;
        self.process.say(&line).map_err(|error| error.to_string())
    }

    fn listen(&mut self) -> Result<(), String> {
        loop {
            let line = match self.process.try_line() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(ProcessError::Ended { .. }) if self.done.is_some() => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            match serde_json::from_str(&line) {
                Ok(Word::Ready) => self.ready = true,
                Ok(Word::Progress(progress)) => self.progress = progress,
                Ok(Word::Done(done)) => self.done = Some(*done),
                Ok(Word::Failed(reason)) => {
                    return Err(format!("{}: {reason}", self.process.name()));
                }
                Err(_) => eprintln!("{}: {line}", self.process.name()),
            }
        }
    }
}

fn private_directory() -> Result<TempDir, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let private = std::fs::Permissions::from_mode(0o700);
    let directory = tempfile::Builder::new()
        .prefix("soak-")
        .permissions(private)
        .tempdir();
    directory.map_err(|error| format!("no directory for sockets: {error}"))
}

/// Where everybody is, and by which certificates.
struct Network {
    directory: PathBuf,
    broker: Place,
    authority: Option<Authority>,
    port: Option<Reserved>,
}

impl Network {
    fn lay(args: &Args, directory: &Path) -> Result<Self, String> {
        let (broker, authority, port) = match args.transport {
            Transport::Unix => (Place::Unix(directory.join("broker.sock")), None, None),
            Transport::Tcp => {
                let authority = Authority::new(directory, "authority")?;
                let port = Reserved::new().map_err(|error| format!("no port: {error}"))?;
                (Place::Tcp(port.address()), Some(authority), Some(port))
            }
        };
        Ok(Self {
            directory: directory.to_owned(),
            broker,
            authority,
            port,
        })
    }

    /// A place for one more to listen.
    fn own(&self, name: &str) -> Place {
        match self.broker {
            Place::Unix(_) => Place::Unix(self.directory.join(name).with_extension("sock")),
            Place::Tcp(_) => Place::Tcp(LOCAL),
        }
    }

    /// What `name` needs to listen or connect there.
    fn at(&self, place: &Place, name: &str) -> Result<At, String> {
        match (place, &self.authority) {
            (Place::Unix(path), _) => Ok(At::Unix(path.clone())),
            (Place::Tcp(address), Some(authority)) => {
                let certificate = authority.issue(&[name])?;
                Ok(At::Tcp {
                    address: *address,
                    ca: certificate.ca,
                    cert: certificate.cert,
                    key: certificate.key,
                })
            }
            (Place::Tcp(_), None) => Err(format!("no certificate for {name}")),
        }
    }
}

const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn start_broker(args: &Args, network: &Network) -> Result<BrokerProcess, String> {
    match (args.broker, &network.broker) {
        (BrokerKind::Busrtd, Place::Unix(socket)) => {
            BrokerProcess::busrtd(socket, args.keepalive())
        }
        (BrokerKind::Busrtd, Place::Tcp(_)) => Err("busrtd has no TLS".to_owned()),
        (BrokerKind::Eventbus, place) => {
            let part = Part::Broker(door(args, network.at(place, "broker")?));
            // Found to be possible now, so that it is possible again after a kill.
            let _ = command(&part)?;
            BrokerProcess::speaking(move || {
                command(&part).unwrap_or_else(|_| Command::new("false"))
            })
            .map_err(|error| error.to_string())
        }
    }
}

fn door(args: &Args, at: At) -> Door {
    Door {
        at,
        keepalive: args.keepalive(),
        patience: args.patience().max(Duration::from_secs(1)),
    }
}

/// This program again, as one of the processes.
fn command(part: &Part) -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let part = serde_json::to_string(part).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.env(PART, part);
    Ok(command)
}
