//! The words inside the model: addresses, ids, and what packets say.

use super::data::{Data, Write};
use super::interface::Ip;
use super::slots::Slots;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Where an engine is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Addr {
    pub(crate) ip: Ip,
    pub(crate) port: u16,
    pub(crate) bus_port: u16,
}

/// Forty hexadecimal digits, kept as a number whose order is the order of the digits. Each look prints some: by hand.
fn forty_digits(id: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let tail = if id == 0 { 0 } else { id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (id >> 29) };
    let mut text = [0; 40];
    let words = [(0, 16, id), (16, 16, tail), (32, 8, (tail >> 17) & 0xffff_ffff)];
    for (from, width, word) in words {
        for (index, digit) in text[from..from + width].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(word >> (4 * (width - 1 - index)) & 0xf) as usize];
        }
    }
    f.write_str(std::str::from_utf8(&text).unwrap_or_default())
}

macro_rules! forty {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                forty_digits(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let id = text.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok()).map(Self).ok_or(())?;
                if id.to_string() == text { Ok(id) } else { Err(()) }
            }
        }
    };
}

forty! {
    /// A cluster node's identity.
    NodeId
}
forty! {
    /// The identity of a replication history; zero is none.
    ReplId
}

/// What a node says about itself in each packet of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sender: NodeId,
    pub(crate) addr: Addr,
    pub(crate) replica: bool,
    /// Whom a replica follows, if it knows.
    pub(crate) primary: Option<NodeId>,
    pub(crate) current_epoch: u64,
    /// Its own, or its primary's.
    pub(crate) config_epoch: u64,
    /// Its own, or its primary's.
    pub(crate) slots: Arc<Slots>,
    pub(crate) offset: i64,
    /// A manual failover's pause is on.
    pub(crate) paused: bool,
    pub(crate) shard: u64,
}

/// One line of gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gossip {
    pub(crate) id: NodeId,
    pub(crate) addr: Addr,
    pub(crate) replica: bool,
    pub(crate) pfail: bool,
    pub(crate) fail: bool,
    pub(crate) noaddr: bool,
    pub(crate) pong_ms: u64,
}

/// The heartbeat's load: gossip, and ids that were forgotten, with the time until which they stay so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    pub(crate) gossip: Vec<Gossip>,
    pub(crate) forgotten: Vec<(NodeId, u64)>,
}

/// The kinds of packets of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bus {
    Ping(Heartbeat),
    Meet(Heartbeat),
    Pong(Heartbeat),
    Fail(NodeId),
    AuthRequest { force: bool },
    AuthAck,
    ManualStart,
    Update { about: NodeId, config_epoch: u64, slots: Arc<Slots> },
}

/// The packets between a replica and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repl {
    /// A replica asks to go on after an offset of a history; the first packet of its connection.
    Psync { password: u64, replid: ReplId, offset: i64, announce: Addr },
    /// The source refuses: the user is off, or its password another, it loads, or it has no link itself.
    Denied,
    /// Going on, under this history.
    Continue { replid: ReplId },
    /// Everything anew: the whole data as of an offset.
    Full { replid: ReplId, offset: i64, data: Data },
    /// The next writes.
    Stream { after: i64, writes: Vec<Write> },
    /// How far the replica is.
    Ack { offset: i64 },
}

/// What a packet of the model says, and for which port it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub(crate) port: u16,
    pub(crate) says: Says,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// `opens`: the first packet of a connection.
    Bus {
        opens: bool,
        header: Arc<Header>,
        bus: Bus,
    },
    Repl(Repl),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forty_digits_in_the_order_of_their_numbers() {
        let ids: Vec<String> = [1, 2, 1 << 40, u64::MAX].map(|n| NodeId(n).to_string()).to_vec();
        assert!(ids.iter().all(|id| id.len() == 40) && ids.is_sorted());
        assert_eq!(ids[2].parse(), Ok(NodeId(1 << 40)));
        assert_eq!(NodeId(0).to_string(), "0".repeat(40));
        assert_eq!(NodeId(0xabc).to_string(), "0000000000000abc5b7ea332638bf16c519931c5");
        assert_eq!("0000000000000001".repeat(3)[..40].parse::<NodeId>(), Err(()));
        assert_eq!("x".parse::<NodeId>(), Err(()));
    }
}
