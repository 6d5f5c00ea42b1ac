//! A name server in the test process, over UDP and TCP on loopback, that says what it is told.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simple_dns::rdata::{CNAME, RData, SOA, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Ports tried until one is free for both protocols.
const PORTS_TRIED: usize = 64;
/// Bytes of a question.
const QUESTION_BYTES_MAX: usize = 1024;

/// One record.
#[derive(Clone, Debug)]
pub enum Data {
    /// An address of either family.
    Address(IpAddr),
    /// Another name.
    Alias(String),
    /// Priority, weight, port and target of a service.
    Service(u16, u16, u16, String),
}

/// How the server behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Answers.
    #[default]
    Well,
    /// Does not answer.
    Silent,
    /// Says that it failed.
    Failing,
    /// Cuts what it says over UDP.
    Truncating,
    /// Says names in lower case over UDP.
    Careless,
    /// Sends wrong answers before the right one, as somebody would who guesses.
    Forging,
}

#[derive(Default)]
struct Zone {
    records: BTreeMap<String, Vec<(Data, u32)>>,
    mood: Mood,
    negative_ttl: Option<u32>,
    asked: Vec<String>,
}

/// A name server; it ends when it is dropped.
pub struct NameServer {
    /// Where it is asked.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NameServer {
    /// Starts one without names.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> io::Result<Self> {
        let (tcp, udp) = bind().await?;
        let address = udp.local_addr()?;
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let (open, gate) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(udp), zone.clone(), gate.clone()));
        tasks.spawn(serve_tcp(tcp, zone.clone(), gate));
        Ok(Self {
            address,
            zone,
            open,
            _tasks: tasks,
        })
    }

    /// Sets the records of a name.
    pub fn set(&self, name: &str, ttl: u32, records: &[Data]) {
        let records = records.iter().map(|it| (it.clone(), ttl)).collect();
        lock(&self.zone)
            .records
            .insert(name.to_ascii_lowercase(), records);
    }

    /// Sets the addresses of a name; what is no address is left out.
    pub fn set_addresses(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let addresses = addresses.iter().filter_map(|it| it.parse().ok());
        let records: Vec<Data> = addresses.map(Data::Address).collect();
        self.set(name, ttl, &records);
    }

    /// Forgets a name.
    pub fn remove(&self, name: &str) {
        lock(&self.zone).records.remove(name);
    }

    /// Changes how it behaves.
    pub fn behave(&self, mood: Mood) {
        lock(&self.zone).mood = mood;
    }

    /// How long its zone lets it be remembered that something is not there; without, it does not say.
    pub fn set_negative_ttl(&self, ttl: Option<u32>) {
        lock(&self.zone).negative_ttl = ttl;
    }

    /// Holds answers back until it is opened again.
    pub fn close(&self) {
        let _known = self.open.send_replace(false);
    }

    /// Sends what was held back.
    pub fn open(&self) {
        let _known = self.open.send_replace(true);
    }

    /// Nobody has asked anything since.
    #[must_use]
    pub fn was_not_asked(&self) -> bool {
        lock(&self.zone).asked.is_empty()
    }

    /// What it was asked since, such as `a.example A`, with ` over TCP` behind it.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.zone).asked)
    }
}

async fn bind() -> io::Result<(TcpListener, UdpSocket)> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..PORTS_TRIED {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn serve_udp(socket: Arc<UdpSocket>, zone: Arc<Mutex<Zone>>, gate: watch::Receiver<bool>) {
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let question = buffer.get(..length).unwrap_or_default().to_vec();
        let (socket, zone, mut gate) = (socket.clone(), zone.clone(), gate.clone());
        while answers.try_join_next().is_some() {}
        answers.spawn(async move {
            for message in answer(&zone, &question, false) {
                let _closed = gate.wait_for(|it| *it).await.is_err();
                let _lost = socket.send_to(&message, peer).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>, gate: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (zone, gate) = (zone.clone(), gate.clone());
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let _broken = serve_connection(stream, &zone, gate).await;
        });
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    zone: &Mutex<Zone>,
    mut gate: watch::Receiver<bool>,
) -> io::Result<()> {
    let length = stream.read_u16().await?;
    let mut question = vec![0; usize::from(length)];
    stream.read_exact(&mut question).await?;
    for message in answer(zone, &question, true) {
        let _closed = gate.wait_for(|it| *it).await.is_err();
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&message).await?;
    }
    // Until the other side has read it.
    let _end = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await;
    Ok(())
}

/// The messages that answer a question.
fn answer(zone: &Mutex<Zone>, bytes: &[u8], tcp: bool) -> Vec<Vec<u8>> {
    let mut zone = lock(zone);
    let Ok(query) = Packet::parse(bytes) else {
        return Vec::new();
    };
    let Some(question) = query.questions.first() else {
        return Vec::new();
    };
    let asked = question.qname.to_string();
    let name = asked.to_ascii_lowercase();
    let kind = match question.qtype {
        QTYPE::TYPE(kind) => kind,
        _ => return Vec::new(),
    };
    let over = if tcp { " over TCP" } else { "" };
    zone.asked.push(format!("{name} {kind:?}{over}"));
    let mood = zone.mood;
    let careless = mood == Mood::Careless && !tcp;
    let shown = if careless { name.clone() } else { asked };
    let right = Reply {
        id: query.id(),
        shown: &shown,
        name: &name,
        kind,
        zone: &zone,
    };
    let messages = match mood {
        Mood::Silent => Vec::new(),
        Mood::Forging if !tcp => {
            let other = Reply {
                id: query.id().wrapping_add(1),
                ..right
            };
            let elsewhere = Reply {
                shown: "elsewhere.example",
                ..right
            };
            vec![
                other.message(false),
                elsewhere.message(false),
                right.message(false),
            ]
        }
        Mood::Truncating => vec![right.message(!tcp)],
        Mood::Well | Mood::Failing | Mood::Careless | Mood::Forging => vec![right.message(false)],
    };
    messages.into_iter().flatten().collect()
}

#[derive(Clone, Copy)]
struct Reply<'a> {
    id: u16,
    /// The name as it is repeated.
    shown: &'a str,
    name: &'a str,
    kind: TYPE,
    zone: &'a Zone,
}

impl Reply<'_> {
    fn message(&self, truncated: bool) -> Option<Vec<u8>> {
        let mut packet = Packet::new_reply(self.id);
        let class = simple_dns::QCLASS::CLASS(CLASS::IN);
        let name = Name::new(self.shown).ok()?;
        let question = simple_dns::Question::new(name, QTYPE::TYPE(self.kind), class, false);
        packet.questions.push(question);
        if self.zone.mood == Mood::Failing {
            *packet.rcode_mut() = RCODE::ServerFailure;
            return packet.build_bytes_vec().ok();
        }
        if truncated {
            packet.set_flags(PacketFlag::TRUNCATION);
            return packet.build_bytes_vec().ok();
        }
        match self.zone.records.get(self.name) {
            None => *packet.rcode_mut() = RCODE::NameError,
            Some(records) => {
                let found = records.iter().filter_map(|it| self.record(self.shown, it));
                packet.answers.extend(found);
                self.add_along(&mut packet, records);
            }
        }
        if packet.answers.is_empty()
            && let Some(ttl) = self.zone.negative_ttl
        {
            packet.name_servers.push(soa(ttl)?);
        }
        packet.build_bytes_vec_compressed().ok()
    }

    fn record<'b>(
        &self,
        name: &'b str,
        (data, ttl): &'b (Data, u32),
    ) -> Option<ResourceRecord<'b>> {
        let data = match (data, self.kind) {
            (Data::Address(IpAddr::V4(it)), TYPE::A) => RData::A((*it).into()),
            (Data::Address(IpAddr::V6(it)), TYPE::AAAA) => RData::AAAA((*it).into()),
            (Data::Alias(name), _) => RData::CNAME(CNAME(Name::new(name).ok()?)),
            (Data::Service(priority, weight, port, target), TYPE::SRV) => RData::SRV(SRV {
                priority: *priority,
                weight: *weight,
                port: *port,
                target: Name::new(target).ok()?,
            }),
            _ => return None,
        };
        Some(ResourceRecord::new(
            Name::new(name).ok()?,
            CLASS::IN,
            *ttl,
            data,
        ))
    }

    /// The records of an alias of the same zone, as recursive servers add them.
    fn add_along<'b>(&self, packet: &mut Packet<'b>, records: &'b [(Data, u32)])
    where
        Self: 'b,
    {
        for (data, _) in records {
            let Data::Alias(target) = data else {
                continue;
            };
            let found = self.zone.records.get(target).map(Vec::as_slice);
            for (data, ttl) in found.unwrap_or_default() {
                if let (Data::Address(IpAddr::V4(ip)), TYPE::A) = (data, self.kind)
                    && let Ok(name) = Name::new(target)
                {
                    let data = RData::A((*ip).into());
                    let record = ResourceRecord::new(name, CLASS::IN, *ttl, data);
                    packet.answers.push(record);
                }
            }
        }
    }
}

fn soa(ttl: u32) -> Option<ResourceRecord<'static>> {
    let data = RData::SOA(SOA {
        mname: Name::new("ns.example").ok()?,
        rname: Name::new("admin.example").ok()?,
        serial: 1,
        refresh: 1,
        retry: 1,
        expire: 1,
        minimum: ttl,
    });
    Some(ResourceRecord::new(
        Name::new("example").ok()?,
        CLASS::IN,
        ttl,
        data,
    ))
}
