//! Statements with bound values, in the SQL that both databases speak.

use std::borrow::Cow;

/// Longest text in an indexed column, in bytes: two of them fit into one B-tree entry of PostgreSQL
/// (2704 bytes). Nothing longer is stored, so looking for something longer finds nothing.
pub(crate) const INDEXED_BYTES_MAX: usize = 1024;

/// A bound value.
pub(crate) enum Argument<'a> {
    Text(Cow<'a, str>),
    Int(i64),
}

/// A statement. `@` stands for the place of our tables, such as `"o28m".`, and appears nowhere else.
#[derive(Default)]
pub(crate) struct Sql<'a> {
    text: String,
    arguments: Vec<Argument<'a>>,
    unstorable: bool,
}

impl<'a> Sql<'a> {
    pub(crate) fn new(text: &str) -> Self {
        Self::default().raw(text)
    }

    /// Appends SQL, which never holds a value.
    pub(crate) fn raw(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Appends a text value of an indexed column.
    pub(crate) fn text(mut self, value: impl Into<Cow<'a, str>>) -> Self {
        let value = value.into();
        self.unstorable |= value.len() > INDEXED_BYTES_MAX || value.contains('\0');
        self.body(value)
    }

    /// Appends a text value of any length that is known to hold no NUL.
    pub(crate) fn body(self, value: impl Into<Cow<'a, str>>) -> Self {
        self.bind(Argument::Text(value.into()))
    }

    /// Appends a number.
    pub(crate) fn int(self, value: i64) -> Self {
        self.bind(Argument::Int(value))
    }

    /// Appends values as a comma-separated list.
    pub(crate) fn list<T>(mut self, items: &[T], each: impl Fn(Self, &T) -> Self) -> Self {
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self = self.raw(", ");
            }
            self = each(self, item);
        }
        self
    }

    fn bind(mut self, argument: Argument<'a>) -> Self {
        self.arguments.push(argument);
        self.text.push('\u{1}');
        self
    }

    /// Whether a value can be in no row: reads find nothing then, writes are refused.
    pub(crate) const fn is_unstorable(&self) -> bool {
        self.unstorable
    }

    /// The text with numbered placeholders and our tables' place, and the values.
    pub(crate) fn finish(self, prefix: &str) -> (String, Vec<Argument<'a>>) {
        let mut text = String::with_capacity(self.text.len() + 64);
        for (at, piece) in self.text.split('\u{1}').enumerate() {
            if at > 0 {
                text.push('$');
                text.push_str(&at.to_string());
            }
            text.push_str(&piece.replace('@', prefix));
        }
        (text, self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_and_tables_placed() {
        let sql = Sql::new("SELECT 1 FROM @t WHERE a = ")
            .text("1")
            .raw(" AND b IN (")
            .list(&[2, 3], |sql, number| sql.int(*number))
            .raw(")");
        let (text, arguments) = sql.finish("\"s\".");
        assert_eq!(text, "SELECT 1 FROM \"s\".t WHERE a = $1 AND b IN ($2, $3)");
        assert_eq!(arguments.len(), 3);
    }

    #[test]
    fn what_no_index_can_hold_is_marked() {
        assert!(Sql::new("").text("a\0b").is_unstorable());
        assert!(Sql::new("").text("x".repeat(1025)).is_unstorable());
        assert!(!Sql::new("").text("x".repeat(1024)).is_unstorable());
    }
}
