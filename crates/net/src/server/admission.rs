//! How many connections one client address may have.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maps, so that threads hardly ever wait for each other.
const SHARDS: usize = 16;

/// Counts the open connections of each address; shared by whatever they come in by.
pub struct Admission {
    per_address_max: u32,
    shards: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

/// A connection that was let in; dropping it lets another one in.
pub(super) struct Admitted {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// Lets in so many connections of one address at once, 1 at least.
    #[must_use]
    pub fn new(per_address_max: u32) -> Arc<Self> {
        Arc::new(Self {
            per_address_max: per_address_max.max(1),
            shards: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// Lets a connection in, unless its address has enough of them.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let address = counted_as(address);
        let mut shard = self.shard(address);
        let count = shard.entry(address).or_insert(0);
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Admitted {
            admission: self.clone(),
            address,
        })
    }

    fn shard(&self, address: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        let bits = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let mixed = bits ^ (bits >> 8) ^ (bits >> 64) ^ (bits >> 96);
        let [first, others @ ..] = &self.shards;
        let shard = match usize::from(mixed as u8) % SHARDS {
            0 => first,
            at => others.get(at - 1).unwrap_or(first),
        };
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has an IPv6 address has as many of its network of 64 bits as there are, so that counts as one.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut shard = self.admission.shard(self.address);
        if let Some(count) = shard.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                shard.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_share() {
        let admission = Admission::new(2);
        let (one, mapped, other) = (
            "192.0.2.1".parse().unwrap(),
            "::ffff:192.0.2.1".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        );
        let first = admission.admit(one);
        let second = admission.admit(mapped);
        assert!(first.is_some() && second.is_some());
        assert!(admission.admit(one).is_none());
        let apart = admission.admit(other);
        let beside = admission.admit("2001:db8::ffff:1".parse().unwrap());
        assert!(apart.is_some() && beside.is_some());
        assert!(admission.admit("2001:db8::2".parse().unwrap()).is_none());
        assert!(
            admission
                .admit("2001:db8:0:1::2".parse().unwrap())
                .is_some()
        );
        drop(first);
        assert!(admission.admit(one).is_some());
        drop((second, apart, beside));
        let left = admission.shards.iter().map(|it| it.lock().unwrap().len());
        assert_eq!(left.sum::<usize>(), 0);
    }
}
