//! Statements with bound values, in the SQL that both databases speak.

use std::borrow::Cow;

/// Longest text in an indexed column, in bytes: two of them fit into one B-tree entry of PostgreSQL
/// (2704 bytes). Nothing longer is stored, so looking for something longer finds nothing.
pub(crate) const INDEXED_BYTES_MAX: usize = 1024;

/// A bound value.
pub(crate) enum Argument<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    /// Of PostgreSQL only.
    Texts(Vec<Cow<'a, str>>),
    /// Of PostgreSQL only.
    Ints(Vec<i64>),
}

/// A column of rows that are written or looked up together.
pub(crate) enum Column<'a> {
    /// Text of an indexed column.
    Text(Vec<Cow<'a, str>>),
    /// Text of any length that is known to hold no NUL.
    Body(Vec<Cow<'a, str>>),
    Int(Vec<i64>),
}

impl<'a> Column<'a> {
    /// Text of an indexed column.
    pub(crate) fn text<T: Into<Cow<'a, str>>>(values: impl IntoIterator<Item = T>) -> Self {
        Self::Text(values.into_iter().map(Into::into).collect())
    }

    /// Text of any length that is known to hold no NUL.
    pub(crate) fn body<T: Into<Cow<'a, str>>>(values: impl IntoIterator<Item = T>) -> Self {
        Self::Body(values.into_iter().map(Into::into).collect())
    }
}

/// What a statement is made of.
enum Piece<'a> {
    Raw(String),
    Value(Argument<'a>),
    Rows(Vec<Column<'a>>),
}

/// The databases' ways to write a placeholder and several rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// A statement. `@` stands for the place of our tables, such as `"o28m".`, and appears nowhere else.
#[derive(Default)]
pub(crate) struct Sql<'a> {
    pieces: Vec<Piece<'a>>,
    unstorable: bool,
}

impl<'a> Sql<'a> {
    pub(crate) fn new(text: &str) -> Self {
        Self::default().raw(text)
    }

    /// Appends SQL, which never holds a value.
    pub(crate) fn raw(mut self, text: &str) -> Self {
        match self.pieces.last_mut() {
            Some(Piece::Raw(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Raw(text.to_owned())),
        }
        self
    }

    /// Appends a text value of an indexed column.
    pub(crate) fn text(mut self, value: impl Into<Cow<'a, str>>) -> Self {
        let value = value.into();
        self.unstorable |= is_unstorable(&value);
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

    /// Appends rows as a query whose columns are called `column1` and so on. There must be a row, and
    /// the columns must be of one length.
    pub(crate) fn rows<const N: usize>(mut self, columns: [Column<'a>; N]) -> Self {
        self.unstorable |= columns.iter().any(|column| match column {
            Column::Text(values) => values.iter().any(|value| is_unstorable(value)),
            Column::Body(_) | Column::Int(_) => false,
        });
        self.pieces.push(Piece::Rows(columns.into()));
        self
    }

    fn bind(mut self, argument: Argument<'a>) -> Self {
        self.pieces.push(Piece::Value(argument));
        self
    }

    /// Whether a value can be in no row: reads find nothing then, writes are refused.
    pub(crate) const fn is_unstorable(&self) -> bool {
        self.unstorable
    }

    /// The text with placeholders and our tables' place, and the values.
    pub(crate) fn finish(self, prefix: &str, dialect: Dialect) -> (String, Vec<Argument<'a>>) {
        let mut made = Made {
            text: String::with_capacity(256),
            arguments: Vec::new(),
            dialect,
        };
        for piece in self.pieces {
            match piece {
                Piece::Raw(text) => made.text.push_str(&text.replace('@', prefix)),
                Piece::Value(value) => made.bind(value),
                Piece::Rows(columns) => match dialect {
                    Dialect::Postgres => made.unnest(columns),
                    Dialect::Sqlite => made.values(columns),
                },
            }
        }
        (made.text, made.arguments)
    }
}

fn is_unstorable(value: &str) -> bool {
    value.len() > INDEXED_BYTES_MAX || value.contains('\0')
}

struct Made<'a> {
    text: String,
    arguments: Vec<Argument<'a>>,
    dialect: Dialect,
}

impl<'a> Made<'a> {
    fn bind(&mut self, value: Argument<'a>) {
        self.arguments.push(value);
        match self.dialect {
            Dialect::Postgres => {
                self.text.push('$');
                self.text.push_str(&self.arguments.len().to_string());
            }
            // Its numbered placeholders are names, which it looks up one by one.
            Dialect::Sqlite => self.text.push('?'),
        }
    }

    /// One array for each column: the statement is the same for any number of rows.
    fn unnest(&mut self, columns: Vec<Column<'a>>) {
        self.text.push_str("SELECT * FROM unnest(");
        let count = columns.len();
        for (at, column) in columns.into_iter().enumerate() {
            if at > 0 {
                self.text.push_str(", ");
            }
            match column {
                Column::Text(values) | Column::Body(values) => {
                    self.bind(Argument::Texts(values));
                    self.text.push_str("::text[]");
                }
                Column::Int(values) => {
                    self.bind(Argument::Ints(values));
                    self.text.push_str("::bigint[]");
                }
            }
        }
        self.text.push_str(") AS u(");
        for at in 1..=count {
            let joint = if at > 1 { ", " } else { "" };
            self.text.push_str(&format!("{joint}column{at}"));
        }
        self.text.push(')');
    }

    fn values(&mut self, columns: Vec<Column<'a>>) {
        self.text.push_str("VALUES ");
        let columns = columns.into_iter().map(|column| -> Values<'a> {
            match column {
                Column::Text(values) | Column::Body(values) => {
                    Box::new(values.into_iter().map(Argument::Text))
                }
                Column::Int(values) => Box::new(values.into_iter().map(Argument::Int)),
            }
        });
        let mut columns: Vec<_> = columns.collect();
        let mut joint = "(";
        loop {
            let row: Vec<_> = columns.iter_mut().filter_map(Iterator::next).collect();
            if row.is_empty() {
                return;
            }
            self.text.push_str(joint);
            for (at, value) in row.into_iter().enumerate() {
                if at > 0 {
                    self.text.push_str(", ");
                }
                self.bind(value);
            }
            self.text.push(')');
            joint = ", (";
        }
    }
}

type Values<'a> = Box<dyn Iterator<Item = Argument<'a>> + 'a>;

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
        let (text, arguments) = sql.finish("\"s\".", Dialect::Postgres);
        assert_eq!(text, "SELECT 1 FROM \"s\".t WHERE a = $1 AND b IN ($2, $3)");
        assert_eq!(arguments.len(), 3);
    }

    #[test]
    fn rows_are_written_as_each_database_likes_them() {
        let sql = || {
            let columns = [Column::text(["a", "b"]), Column::Int(vec![1, 2])];
            Sql::new("INSERT INTO @t ")
                .rows(columns)
                .raw(" WHERE x = ")
                .int(3)
        };
        let (text, arguments) = sql().finish("s.", Dialect::Postgres);
        assert_eq!(
            text,
            "INSERT INTO s.t SELECT * FROM unnest($1::text[], $2::bigint[]) AS u(column1, column2) \
             WHERE x = $3"
        );
        assert_eq!(arguments.len(), 3);
        let (text, arguments) = sql().finish("", Dialect::Sqlite);
        assert_eq!(text, "INSERT INTO t VALUES (?, ?), (?, ?) WHERE x = ?");
        assert_eq!(arguments.len(), 5);
    }

    #[test]
    fn what_no_index_can_hold_is_marked() {
        assert!(Sql::new("").text("a\0b").is_unstorable());
        assert!(Sql::new("").text("x".repeat(1025)).is_unstorable());
        assert!(!Sql::new("").text("x".repeat(1024)).is_unstorable());
        assert!(
            Sql::new("")
                .rows([Column::text(["a", "b\0"])])
                .is_unstorable()
        );
    }
}
