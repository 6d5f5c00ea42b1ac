//! Entry point of the fuzz target of answers: it takes any bytes and panics when a promise is broken.

use super::Kind;
use super::message::{Question, RECORDS_MAX, Record, Reply, is_name};

/// The name that answers are for.
const NAME: &str = "a.example.test";

/// A message as the answer to questions of each kind, as it is and with the id and flags of an answer.
///
/// # Panics
/// When records are believed of a message that is no answer, or more of them than are allowed.
pub fn answer(data: &[u8]) {
    for kind in [Kind::A, Kind::Aaaa, Kind::Srv] {
        let question = Question::fixed(0x1234, NAME, kind);
        judge(&question, data, data);
        let mut message = data.to_vec();
        for (at, byte) in [(0, 0x12), (1, 0x34), (2, 0x80)] {
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
        }
        judge(&question, &message, data);
    }
}

fn judge(question: &Question, message: &[u8], data: &[u8]) {
    let exact = question.read(message, true);
    let lenient = question.read(message, false);
    if let Ok(reply) = &exact {
        assert_eq!(lenient.as_ref(), Ok(reply), "{data:?}");
        assert_eq!(message.get(..2), Some(&[0x12, 0x34][..]), "{data:?}");
    }
    match lenient {
        Ok(Reply::Records(records, _)) => {
            assert!(!records.is_empty() && records.len() <= RECORDS_MAX);
            for record in records {
                if let Record::Service(service) = record {
                    assert!(is_name(&service.target), "{data:?}");
                    assert!(service.addresses.len() <= RECORDS_MAX);
                }
            }
        }
        Ok(Reply::Alias(name, _)) => assert!(is_name(&name), "{data:?}"),
        Ok(Reply::Nothing(..) | Reply::Unable(_)) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn committed_inputs_break_nothing() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/dns");
        let mut count = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            super::answer(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 5);
    }
}
