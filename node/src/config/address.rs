//! `HOST:PORT`, and lists of members `ID=HOST:PORT,...`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Where to listen or to connect: a host name or IP address, and a port. Nothing is resolved here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Lower case, an IPv6 address without its brackets.
    host: String,
    port: u16,
}

impl Address {
    /// A port of 127.0.0.1.
    #[must_use]
    pub fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".into(), port }
    }

    /// Host name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port; 0 asks the system for a free one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can reach it. Of names only `localhost` counts.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.ip().map_or(self.host == "localhost", |ip| ip.to_canonical().is_loopback())
    }

    /// Whether it stands for every address of this machine (`0.0.0.0`, `[::]`).
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no colon, or nothing before it.
    #[error("expected HOST:PORT, found {0:?}")]
    Form(String),
    /// The port is no number up to 65535.
    #[error("{port:?} in {text:?} is not a port (0 to 65535)")]
    Port {
        /// The text.
        text: String,
        /// Its port.
        port: String,
    },
    /// The host is neither an IP address nor a name.
    #[error("{host:?} in {text:?} is neither an IP address nor a host name{hint}")]
    Host {
        /// The text.
        text: String,
        /// Its host.
        host: String,
        /// How to write it, where that can be guessed.
        hint: &'static str,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form(text.into());
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        if host.is_empty() {
            return Err(form());
        }
        let port =
            parse_port(port).ok_or_else(|| AddressError::Port { text: text.into(), port: port.into() })?;
        let wrong = |hint| AddressError::Host { text: text.into(), host: host.into(), hint };
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) if is_ipv6(inner) => inner,
            Some(_) => return Err(wrong("")),
            None if host.contains(':') => return Err(wrong("; write an IPv6 address as [ADDRESS]:PORT")),
            None if is_ipv4_or_name(host) => host,
            None => return Err(wrong("")),
        };
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` would take `+7400`.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_ipv4_or_name(text: &str) -> bool {
    let label_ok = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    // No top-level domain is a number: `127.0.0.300` is a mistyped IPv4 address.
    let numeric_end = name.rsplit('.').next().is_some_and(|end| end.bytes().all(|b| b.is_ascii_digit()));
    text.parse::<std::net::Ipv4Addr>().is_ok() || (name.split('.').all(label_ok) && !numeric_end)
}

/// One node of an initial cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Where the others reach it.
    pub address: Address,
}

/// The nodes that form a cluster together. Invariant: not empty, every number and address only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster(Vec<Member>);

impl Cluster {
    /// The nodes, in the order they were written.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.0
    }

    /// The node with this number.
    #[must_use]
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.0.iter().find(|member| member.id == id)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Member { id, address }) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{id}={address}")?;
        }
        Ok(())
    }
}

/// Why a text is no list of members.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// A member is not `ID=HOST:PORT`.
    #[error("expected a list of ID=HOST:PORT, found {0:?}")]
    Form(String),
    /// The number of a member is not one.
    #[error("{id:?} in {member:?} is not a node number (1 or more)")]
    Id {
        /// The member.
        member: String,
        /// Its number.
        id: String,
    },
    /// The address of a member is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Others cannot connect to that address.
    #[error("{0:?} is not an address that other nodes can connect to")]
    Unreachable(String),
    /// A number comes twice.
    #[error("node {0} is named twice")]
    SameId(u64),
    /// An address comes twice.
    #[error("{0} is named twice")]
    SameAddress(Address),
}

impl FromStr for Cluster {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let mut members: Vec<Member> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let member = parse_member(part)?;
            if members.iter().any(|other| other.id == member.id) {
                return Err(ClusterError::SameId(member.id));
            }
            if members.iter().any(|other| other.address == member.address) {
                return Err(ClusterError::SameAddress(member.address));
            }
            members.push(member);
        }
        Ok(Self(members))
    }
}

fn parse_member(part: &str) -> Result<Member, ClusterError> {
    let (id_text, address) = part.split_once('=').ok_or_else(|| ClusterError::Form(part.into()))?;
    let id = id_text.parse().ok().filter(|&id: &u64| id > 0 && id <= i64::MAX as u64);
    let id = id.ok_or_else(|| ClusterError::Id { member: part.into(), id: id_text.into() })?;
    let address: Address = address.parse()?;
    if address.port() == 0 || address.is_wildcard() {
        return Err(ClusterError::Unreachable(address.to_string()));
    }
    Ok(Member { id, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Address>().unwrap_err().to_string()
    }

    #[test]
    fn an_address_is_shown_as_it_is_read() {
        for text in ["127.0.0.1:7400", "[::1]:7400", "node-1.example.org:0", "localhost:65535", "a_b:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("LocalHost:7400".parse::<Address>().unwrap().to_string(), "localhost:7400");
    }

    #[test]
    fn what_is_no_address_is_refused_by_its_part() {
        assert_eq!(error("7400"), r#"expected HOST:PORT, found "7400""#);
        assert_eq!(error(":7400"), r#"expected HOST:PORT, found ":7400""#);
        assert_eq!(error(""), r#"expected HOST:PORT, found """#);
        assert_eq!(error("h:70000"), r#""70000" in "h:70000" is not a port (0 to 65535)"#);
        assert_eq!(error("h:+1"), r#""+1" in "h:+1" is not a port (0 to 65535)"#);
        assert_eq!(error("h:"), r#""" in "h:" is not a port (0 to 65535)"#);
        for host in ["127.0.0.300", "a b", "a..b", "[h]", "ä"] {
            assert!(error(&format!("{host}:1")).contains("neither an IP address nor a host name"), "{host}");
        }
        assert!(error("::1:7400").ends_with("write an IPv6 address as [ADDRESS]:PORT"));
    }

    #[test]
    fn loopback_is_known_without_resolving() {
        for text in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"] {
            assert!(text.parse::<Address>().unwrap().is_loopback(), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "node1:1", "localhost.example.org:1"] {
            assert!(!text.parse::<Address>().unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn a_cluster_is_shown_as_it_is_read() {
        let cluster: Cluster = "1=a:1, 2=[::1]:2,3=c:3".parse().unwrap();
        assert_eq!(cluster.to_string(), "1=a:1,2=[::1]:2,3=c:3");
        assert_eq!(cluster.member(2).unwrap().address, "[::1]:2".parse().unwrap());
        assert_eq!(cluster.member(4), None);
    }

    #[test]
    fn what_is_no_cluster_is_refused_by_its_part() {
        for (text, why) in [
            ("1", r#"expected a list of ID=HOST:PORT, found "1""#),
            ("1=a:1,", r#"expected a list of ID=HOST:PORT, found """#),
            ("x=a:1", r#""x" in "x=a:1" is not a node number (1 or more)"#),
            ("0=a:1", r#""0" in "0=a:1" is not a node number (1 or more)"#),
            ("1=a", r#"expected HOST:PORT, found "a""#),
            ("1=a:0", r#""a:0" is not an address that other nodes can connect to"#),
            ("1=0.0.0.0:1", r#""0.0.0.0:1" is not an address that other nodes can connect to"#),
            ("1=a:1,1=b:1", "node 1 is named twice"),
            ("1=a:1,2=A:1", "a:1 is named twice"),
        ] {
            assert_eq!(text.parse::<Cluster>().unwrap_err().to_string(), why, "{text}");
        }
    }
}
