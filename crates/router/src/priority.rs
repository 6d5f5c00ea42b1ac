//! The order of routes: which of several matching ones wins.

use o28m_kong::Route;

/// How routes are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calculation {
    /// What Kong 3.9.3 executes, with the 32-bit shifts of its arithmetic (spec gateway-proxy
    /// 3.3.2).
    #[default]
    Original,
    /// What Kong documents (spec gateway-proxy 3.3.3).
    Strict,
}

/// Position in the order; the greater one wins. Ties of the priority fall to the older route where age
/// counts, then to the greater id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) priority: u128,
    /// Greater for older routes; 0 where age does not count.
    pub(crate) age: u64,
    pub(crate) id: u128,
}

/// What the priority of one path group is made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weights {
    /// Number of kinds of conditions.
    pub(crate) kinds: u8,
    /// Hosts are set and none has a wildcard.
    pub(crate) plain_hosts: bool,
    /// Number of header names, at most 255.
    pub(crate) headers: u8,
    /// The group consists of path expressions.
    pub(crate) regex: bool,
    /// The route's `regex_priority`; counts only with `regex`.
    pub(crate) regex_priority: i64,
    /// Bytes of the plain path, 0 for expressions.
    pub(crate) path_length: usize,
}

const HEADERS_MAX: usize = 255;
const PATH_LENGTH_MASK: u64 = 0x7_FFFF;

impl Weights {
    /// The weights of `route` without those of its path group.
    pub(crate) fn of(route: &Route) -> Self {
        let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|it| !it.is_empty());
        let headers = route.headers.as_ref().map_or(0, |it| it.len());
        let kinds = [
            filled(&route.methods),
            filled(&route.hosts),
            filled(&route.paths),
            filled(&route.snis),
            headers > 0,
            has_endpoints(&route.sources),
            has_endpoints(&route.destinations),
        ];
        Self {
            kinds: kinds.into_iter().map(u8::from).sum(),
            // An empty list counts here, although it is no condition: Kong looks for null only.
            plain_hosts: route
                .hosts
                .as_ref()
                .is_some_and(|hosts| hosts.iter().all(|host| !host.contains('*'))),
            headers: u8::try_from(headers.min(HEADERS_MAX)).unwrap_or(u8::MAX),
            regex: false,
            regex_priority: route.regex_priority,
            path_length: 0,
        }
    }

    pub(crate) fn priority(&self, calculation: Calculation) -> u64 {
        match calculation {
            Calculation::Original => self.original(),
            Calculation::Strict => self.strict(),
        }
    }

    /// Kong shifts plain Lua numbers, which happens in 32 bits and sign-extends: four kinds or a
    /// negative `regex_priority` flood the upper half. Migrated route sets rely on the outcome.
    fn original(&self) -> u64 {
        let regex_priority = if self.regex { self.regex_priority } else { 0 };
        let length = if self.regex { 0 } else { self.path_length };
        sign_extend(i64::from(self.kinds) << 29)
            | sign_extend(i64::from(self.headers) << 20)
            | sign_extend(regex_priority.wrapping_shl(19))
            | (length as u64 & PATH_LENGTH_MASK)
            | (u64::from(self.plain_hosts) << 60)
            | (u64::from(self.regex) << 51)
    }

    /// Kinds, plain hosts, headers, expression, its priority, path length, from the top bit down.
    fn strict(&self) -> u64 {
        let wanted = if self.regex { self.regex_priority } else { 0 };
        let limits = (i64::from(i32::MIN), i64::from(i32::MAX));
        let biased = (wanted.clamp(limits.0, limits.1) - limits.0).unsigned_abs();
        let length = if self.regex { 0 } else { self.path_length };
        (u64::from(self.kinds) << 61)
            | (u64::from(self.plain_hosts) << 60)
            | (u64::from(self.headers) << 52)
            | (u64::from(self.regex) << 51)
            | (biased << 19)
            | (length as u64 & PATH_LENGTH_MASK)
    }
}

/// The priority of a route with an expression. Under [`Calculation::Strict`] it is above that of every
/// other; what Kong computes is exceeded by routes of four and more kinds.
pub(crate) fn of_expression(wanted: u64, calculation: Calculation) -> u128 {
    match calculation {
        Calculation::Original => u128::from(0xFF << 56 | wanted),
        Calculation::Strict => 1 << 64 | u128::from(wanted),
    }
}

fn has_endpoints(list: &Option<Vec<o28m_kong::Endpoint>>) -> bool {
    list.as_ref().is_some_and(|it| !it.is_empty())
}

/// The low 32 bits, sign-extended to 64.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "cutting off and reinterpreting bits is what this function is for"
)]
fn sign_extend(value: i64) -> u64 {
    i64::from(value as i32) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Calculation, Weights};

    /// The formula of the specification, term by term.
    fn literal(kinds: i64, plain: bool, headers: i64, regex: bool, rp: i64, length: i64) -> u64 {
        let sx32 = |value: i64| -> u64 {
            let low = (value as u64) & 0xFFFF_FFFF;
            if low & 0x8000_0000 != 0 {
                low | 0xFFFF_FFFF_0000_0000
            } else {
                low
            }
        };
        let rp = if regex { rp } else { 0 };
        let length = if regex { 0 } else { length };
        sx32(kinds.wrapping_mul(1 << 29))
            | sx32(headers.wrapping_mul(1 << 20))
            | sx32(rp.wrapping_mul(1 << 19))
            | (length as u64 & 0x7FFFF)
            | if plain { 1 << 60 } else { 0 }
            | if regex { 1 << 51 } else { 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn original_equals_the_formula(
            kinds in 0_u8..8, plain: bool, headers: u8, regex: bool,
            rp in prop_oneof![-20_000_i64..20_000, any::<i64>()], length in 0_usize..1_000_000,
        ) {
            let weights = Weights {
                kinds, plain_hosts: plain, headers, regex, regex_priority: rp, path_length: length,
            };
            let expected = literal(
                kinds.into(), plain, headers.into(), regex, rp, i64::try_from(length).unwrap(),
            );
            prop_assert_eq!(weights.priority(Calculation::Original), expected);
        }
    }

    #[test]
    fn known_consequences_of_the_32_bit_shifts() {
        let plain_host = Weights {
            kinds: 1,
            plain_hosts: true,
            ..Weights::default()
        };
        let two_kinds = Weights {
            kinds: 2,
            path_length: 9,
            ..Weights::default()
        };
        let four_kinds = Weights {
            kinds: 4,
            ..Weights::default()
        };
        let negative = Weights {
            kinds: 1,
            regex: true,
            regex_priority: -1,
            ..Weights::default()
        };
        let original = |weights: Weights| weights.priority(Calculation::Original);
        let strict = |weights: Weights| weights.priority(Calculation::Strict);
        assert!(original(plain_host) > original(two_kinds));
        assert!(strict(plain_host) < strict(two_kinds));
        assert!(original(four_kinds) > original(plain_host));
        let high = Weights {
            regex_priority: 100,
            ..negative
        };
        assert!(original(negative) > original(high));
        assert!(strict(negative) < strict(high));
    }
}
