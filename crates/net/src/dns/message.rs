//! Questions to name servers and what may be believed of the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, TYPE};

use super::{Failure, Kind, random};

/// Aliases followed for one name.
pub(super) const ALIASES_MAX: usize = 8;
/// Records of one answer that count.
pub(super) const RECORDS_MAX: usize = 1024;
/// Longest time to live that is believed (RFC 8767 section 4).
const TTL_MAX_S: u32 = 7 * 24 * 3600;
/// Bytes of a name as text, without the final dot (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Bytes of one of its labels.
const LABEL_BYTES_MAX: usize = 63;

/// What is asked.
pub(super) struct Question {
    id: u16,
    /// In random case: who answers without having seen the question does not know it.
    name: String,
    kind: Kind,
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Records, and how long they may be used.
    Records(Vec<Record>, Duration),
    /// The name is another one, of which the server says nothing.
    Alias(String, Duration),
    /// Nothing of that kind, and for how long, as far as the zone says.
    Nothing(Failure, Option<Duration>),
    /// The server cannot tell.
    Unable(Failure),
}

/// An address, or where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Service(Service),
}

/// A record of a service with the addresses that came along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: Arc<str>,
    pub(super) addresses: Vec<IpAddr>,
}

/// Why a message is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It answers something else, or is none at all: the real one may still come.
    Foreign,
    /// The name came back in another case: forged, or of a server that does not keep it.
    Case,
    /// There is more than fits.
    Truncated,
}

/// Whether a name can be asked for.
pub(super) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

impl Question {
    /// `None` when there is nothing random.
    pub(super) fn new(name: &str, kind: Kind) -> Option<Self> {
        let [high, low, bits @ ..] = random::<34>()?;
        let mut bits = bits
            .iter()
            .flat_map(|byte| (0..8).map(move |at| byte >> at & 1 == 1));
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = name.chars().map(|it| match bits.next() {
            Some(true) => it.to_ascii_uppercase(),
            _ => it.to_ascii_lowercase(),
        });
        Some(Self {
            id: u16::from_be_bytes([high, low]),
            name: name.collect(),
            kind,
        })
    }

    /// A question that is known beforehand.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn fixed(id: u16, name: &str, kind: Kind) -> Self {
        Self {
            id,
            name: name.to_owned(),
            kind,
        }
    }

    /// `None` when the name is none.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let mut packet = Packet::new_query(self.id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new(&self.name).ok()?;
        let class = QCLASS::CLASS(CLASS::IN);
        let question = simple_dns::Question::new(name, self.qtype(), class, false);
        packet.questions.push(question);
        packet.build_bytes_vec().ok()
    }

    fn qtype(&self) -> QTYPE {
        QTYPE::TYPE(match self.kind {
            Kind::A => TYPE::A,
            Kind::Aaaa => TYPE::AAAA,
            Kind::Srv => TYPE::SRV,
        })
    }

    /// Reads a message that came from the server that was asked. `exact` demands the case of the name.
    pub(super) fn read(&self, bytes: &[u8], exact: bool) -> Result<Reply, Unfit> {
        let packet = Packet::parse(bytes).map_err(|_| Unfit::Foreign)?;
        let is_answer = packet.id() == self.id
            && packet.has_flags(PacketFlag::RESPONSE)
            && packet.opcode() == OPCODE::StandardQuery;
        if !is_answer {
            return Err(Unfit::Foreign);
        }
        let rcode = packet.rcode();
        match packet.questions.as_slice() {
            [asked] => self.check(asked, exact)?,
            // Some servers refuse without repeating what was asked.
            [] if !matches!(rcode, RCODE::NoError | RCODE::NameError) => {}
            _ => return Err(Unfit::Foreign),
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Err(Unfit::Truncated);
        }
        Ok(match rcode {
            RCODE::NoError => self.records(&packet),
            RCODE::NameError => Reply::Nothing(Failure::NoSuchName, negative_ttl(&packet)),
            other => Reply::Unable(refused(other)),
        })
    }

    fn check(&self, asked: &simple_dns::Question<'_>, exact: bool) -> Result<(), Unfit> {
        let ours = self.name.split('.').map(str::as_bytes);
        let is_same = asked.qtype == self.qtype()
            && asked.qclass == QCLASS::CLASS(CLASS::IN)
            && same_name(&asked.qname, &self.name);
        match is_same {
            false => Err(Unfit::Foreign),
            true if exact && !ours.eq(asked.qname.as_bytes()) => Err(Unfit::Case),
            true => Ok(()),
        }
    }

    /// The records at the end of the aliases of the name.
    fn records(&self, packet: &Packet<'_>) -> Reply {
        let mut name = self.name.clone();
        let mut ttl = TTL_MAX_S;
        let mut aliased = false;
        for _ in 0..=ALIASES_MAX {
            let mut records = Vec::new();
            let mut alias = None;
            for answer in packet.answers.iter().take(RECORDS_MAX) {
                if answer.class != CLASS::IN || !same_name(&answer.name, &name) {
                    continue;
                }
                let record = match (&answer.rdata, self.kind) {
                    (RData::A(it), Kind::A) => {
                        Record::Address(IpAddr::V4(Ipv4Addr::from(it.address)))
                    }
                    (RData::AAAA(it), Kind::Aaaa) => {
                        Record::Address(IpAddr::V6(Ipv6Addr::from(it.address)))
                    }
                    (RData::SRV(it), Kind::Srv) => match service(it, packet) {
                        Some(service) => Record::Service(service),
                        None => continue,
                    },
                    (RData::CNAME(it), _) => {
                        alias = text(&it.0);
                        ttl = ttl.min(seconds(answer.ttl));
                        continue;
                    }
                    _ => continue,
                };
                ttl = ttl.min(seconds(answer.ttl));
                records.push(record);
            }
            let lifetime = Duration::from_secs(u64::from(ttl));
            match alias {
                _ if !records.is_empty() => return Reply::Records(records, lifetime),
                None if aliased && negative_ttl(packet).is_none() => {
                    return Reply::Alias(name, lifetime);
                }
                None => return Reply::Nothing(Failure::NoRecords, negative_ttl(packet)),
                Some(next) => name = next,
            }
            aliased = true;
        }
        Reply::Unable(Failure::Recursion)
    }
}

/// A time to live with the highest bit set is none (RFC 2181 section 8).
fn seconds(ttl: u32) -> u32 {
    if ttl > u32::MAX / 2 {
        0
    } else {
        ttl.min(TTL_MAX_S)
    }
}

fn same_name(name: &Name<'_>, text: &str) -> bool {
    let mut labels = name.as_bytes();
    let same = text.split('.').all(|ours| {
        labels
            .next()
            .is_some_and(|it| it.eq_ignore_ascii_case(ours.as_bytes()))
    });
    same && labels.next().is_none()
}

/// In lower case; `None` when it cannot be asked for.
fn text(name: &Name<'_>) -> Option<String> {
    let labels = name.as_bytes().map(std::str::from_utf8);
    let labels: Vec<&str> = labels.collect::<Result<_, _>>().ok()?;
    let text = labels.join(".").to_ascii_lowercase();
    is_name(&text).then_some(text)
}

fn service(record: &simple_dns::rdata::SRV<'_>, packet: &Packet<'_>) -> Option<Service> {
    // The root as target says that there is no such service (RFC 2782).
    let target = text(&record.target)?;
    let along = packet.additional_records.iter().take(RECORDS_MAX);
    let along = along.filter(|it| it.class == CLASS::IN && same_name(&it.name, &target));
    let addresses = along.filter_map(|it| match &it.rdata {
        RData::A(it) => Some(IpAddr::V4(Ipv4Addr::from(it.address))),
        RData::AAAA(it) => Some(IpAddr::V6(Ipv6Addr::from(it.address))),
        _ => None,
    });
    Some(Service {
        priority: record.priority,
        weight: record.weight,
        port: record.port,
        addresses: addresses.collect(),
        target: Arc::from(target),
    })
}

/// How long a zone lets it be remembered that something is not there (RFC 2308 section 5).
fn negative_ttl(packet: &Packet<'_>) -> Option<Duration> {
    packet.name_servers.iter().find_map(|it| match &it.rdata {
        RData::SOA(soa) => {
            let ttl = seconds(it.ttl).min(seconds(soa.minimum));
            Some(Duration::from_secs(u64::from(ttl)))
        }
        _ => None,
    })
}

fn refused(code: RCODE) -> Failure {
    let (number, text) = match code {
        RCODE::FormatError => (1, "format error"),
        RCODE::ServerFailure => (2, "server failure"),
        RCODE::NotImplemented => (4, "not implemented"),
        RCODE::Refused => (5, "refused"),
        _ => (0, "unknown"),
    };
    Failure::Refused(number, text)
}
