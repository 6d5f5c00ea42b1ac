//! The few messages of OTLP that are written, field by field. A generated library would bring a compiler
//! plugin for eight messages that nothing here reads.

/// A message under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;

/// Bytes that a number takes.
fn varint_length(number: usize) -> usize {
    let bits = usize::BITS - number.leading_zeros();
    (bits.max(1) as usize).div_ceil(7)
}

/// Bytes that a field of so many bytes takes; its number is below 16.
fn field_length(length: usize) -> usize {
    1 + varint_length(length) + length
}

impl Message {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn begin(&mut self, field: u64, length: usize) {
        self.key(field, LENGTH);
        self.varint(length as u64);
    }

    pub(super) fn number(&mut self, field: u64, number: u64) {
        self.key(field, VARINT);
        self.varint(number);
    }

    pub(super) fn fixed(&mut self, field: u64, number: u64) {
        self.key(field, FIXED64);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Text, bytes, or a message that is already encoded.
    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.begin(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// `KeyValue` of a text; an empty one is left out.
    pub(super) fn text_attribute(&mut self, field: u64, key: &str, text: &str) {
        if !text.is_empty() {
            self.attribute(field, key, field_length(text.len()));
            self.bytes(1, text.as_bytes());
        }
    }

    /// `KeyValue` of a truth value.
    pub(super) fn truth_attribute(&mut self, field: u64, key: &str, truth: bool) {
        self.attribute(field, key, 2);
        self.number(2, truth.into());
    }

    /// `KeyValue` of a whole number.
    pub(super) fn whole_attribute(&mut self, field: u64, key: &str, number: u16) {
        self.attribute(field, key, 1 + varint_length(number.into()));
        self.number(3, number.into());
    }

    /// `KeyValue` of a number as the original writes all others.
    pub(super) fn double_attribute(&mut self, field: u64, key: &str, number: f64) {
        self.attribute(field, key, 9);
        self.fixed(4, number.to_bits());
    }

    /// Everything of a `KeyValue` before its `AnyValue`, which has so many bytes.
    fn attribute(&mut self, field: u64, key: &str, value_length: usize) {
        self.begin(field, field_length(key.len()) + field_length(value_length));
        self.bytes(1, key.as_bytes());
        self.begin(2, value_length);
    }
}
