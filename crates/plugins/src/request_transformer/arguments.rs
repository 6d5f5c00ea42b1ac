//! Named values of a query string or form body, in order.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

/// Everything but RFC 3986's unreserved characters is escaped, as nginx's Lua module does.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

type Bytes<'a> = Cow<'a, [u8]>;

/// Decoded arguments; one without `=` has no value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments<'a> {
    pairs: Vec<(Bytes<'a>, Option<Bytes<'a>>)>,
}

impl<'a> Arguments<'a> {
    /// Reads `name=value&name&…`.
    pub(super) fn decode(text: &'a [u8]) -> Self {
        let pairs = text.split(|byte| *byte == b'&');
        let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = unescape(halves.next().unwrap_or_default());
            (name, halves.next().map(unescape))
        });
        Self {
            pairs: pairs.collect(),
        }
    }

    /// Writes the arguments in the present order.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.pairs {
            if !text.is_empty() {
                text.push('&');
            }
            text.extend(percent_encode(name, ESCAPED));
            if let Some(value) = value {
                text.push('=');
                text.extend(percent_encode(value, ESCAPED));
            }
        }
        text
    }

    /// Orders by name; the values of one name keep their order.
    pub(super) fn sort(&mut self) {
        self.pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
    }

    /// The first argument of that name.
    pub(super) fn get(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        let mut pairs = self.pairs.iter();
        let (_, value) = pairs.find(|(it, _)| **it == *name)?;
        Some(value.as_deref())
    }

    fn has(&self, name: &[u8]) -> bool {
        self.pairs.iter().any(|(it, _)| **it == *name)
    }

    /// Removes every argument of that name.
    pub(super) fn remove(&mut self, name: &[u8]) {
        self.pairs.retain(|(it, _)| **it != *name);
    }

    /// Gives every argument of one name another one, in the place of those that had it.
    pub(super) fn rename(&mut self, old: &[u8], new: &[u8]) {
        if old == new || !self.has(old) {
            return;
        }
        self.remove(new);
        for (name, _) in &mut self.pairs {
            if **name == *old {
                *name = Cow::Owned(new.to_vec());
            }
        }
    }

    /// Gives an argument that is there one new value.
    pub(super) fn replace(&mut self, name: &[u8], value: Vec<u8>) {
        let Some(at) = self.pairs.iter().position(|(it, _)| **it == *name) else {
            return;
        };
        let mut index = 0;
        self.pairs.retain(|(it, _)| {
            let keep = index == at || **it != *name;
            index += 1;
            keep
        });
        if let Some((_, place)) = self.pairs.get_mut(at) {
            *place = Some(Cow::Owned(value));
        }
    }

    /// Adds an argument that is not there.
    pub(super) fn add(&mut self, name: &[u8], value: Vec<u8>) {
        if !self.has(name) {
            self.push(name, value);
        }
    }

    /// Adds a value to those that are there; it takes the place of an argument without value.
    pub(super) fn append(&mut self, name: &[u8], value: Vec<u8>) {
        self.pairs
            .retain(|(it, present)| **it != *name || present.is_some());
        self.push(name, value);
    }

    /// Adds all of `others`.
    pub(super) fn extend(&mut self, others: Self) {
        self.pairs.extend(others.pairs);
    }

    fn push(&mut self, name: &[u8], value: Vec<u8>) {
        let name = Cow::Owned(name.to_vec());
        self.pairs.push((name, Some(Cow::Owned(value))));
    }
}

fn unescape(text: &[u8]) -> Bytes<'_> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect();
        return Cow::Owned(percent_decode(&spaced).collect());
    }
    percent_decode(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str, change: impl FnOnce(&mut Arguments<'_>)) -> String {
        let mut arguments = Arguments::decode(text.as_bytes());
        change(&mut arguments);
        arguments.encode()
    }

    #[test]
    fn decodes_and_encodes_names_values_and_flags() {
        let same = |text: &str| changed(text, |_| ());
        assert_eq!(same("a=1&flag&b="), "a=1&flag&b=");
        assert_eq!(same("a=x+y%2Fz&&%C3%A4=%ff"), "a=x%20y%2Fz&%C3%A4=%FF");
        assert_eq!(same("a==b&%zz=1"), "a=%3Db&%25zz=1");
        assert_eq!(same(""), "");
    }

    #[test]
    fn each_operation_does_what_its_name_says() {
        assert_eq!(changed("a=1&b=2&a=3", |it| it.remove(b"a")), "b=2");
        assert_eq!(
            changed("a=1&b=2&a=3", |it| it.rename(b"a", b"b")),
            "b=1&b=3"
        );
        assert_eq!(changed("b=2", |it| it.rename(b"a", b"b")), "b=2");
        assert_eq!(changed("a=1", |it| it.rename(b"a", b"a")), "a=1");
        assert_eq!(
            changed("b=0&a=1&a=2", |it| it.replace(b"a", b"n".to_vec())),
            "b=0&a=n"
        );
        assert_eq!(changed("b=0", |it| it.replace(b"a", b"n".to_vec())), "b=0");
        assert_eq!(changed("a=1", |it| it.add(b"a", b"n".to_vec())), "a=1");
        assert_eq!(changed("b=1", |it| it.add(b"a", b"n".to_vec())), "b=1&a=n");
        assert_eq!(
            changed("a=1", |it| it.append(b"a", b"n".to_vec())),
            "a=1&a=n"
        );
        assert_eq!(changed("a", |it| it.append(b"a", b"n".to_vec())), "a=n");
        assert_eq!(changed("b=2&a=2&a=1", |it| it.sort()), "a=2&a=1&b=2");
    }
}
