//! Entry points of the fuzz targets: each takes any bytes and panics when a promise is broken. The same
//! functions run over the committed inputs in an ordinary test.

mod accept;
mod client;
mod proxy;
mod recorder;
mod world;

pub use accept::accept;
pub use proxy::proxy;

/// What takes an input; it panics when a promise is broken.
pub type Entry = fn(&[u8]);

/// Name and entry point of each target.
pub const TARGETS: &[(&str, Entry)] = &[("accept", accept), ("proxy", proxy)];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    /// What lines of `Accept` are made of.
    const WORDS: &[&str] = &[
        "text",
        "html",
        "/",
        "*",
        ";",
        "q=",
        "Q=",
        "0.5",
        "1",
        "0",
        "7",
        "-1",
        "nan",
        "1e-9",
        ",",
        " ",
        "\t",
        "\n",
        "application/json",
        "application/xml",
        "text/plain",
        "TEXT/HTML",
        "application/grpc+proto",
        "\u{e9}",
        "\"",
        "<",
        "&",
        "text/*",
        "*/*",
        "",
    ];

    proptest! {
        #[test]
        fn accept_is_read_literally(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..40)) {
            super::accept(words.concat().as_bytes());
        }

        #[test]
        fn any_bytes_are_read_literally(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::accept(&bytes);
        }
    }

    /// What the fuzz targets promise holds for every committed input.
    #[test]
    fn committed_inputs_break_nothing() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (target, entry) in super::TARGETS {
            let mut count = 0;
            for file in std::fs::read_dir(corpus.join(target)).unwrap() {
                let path = file.unwrap().path();
                let data = std::fs::read(&path).unwrap();
                let ran = std::panic::catch_unwind(|| entry(&data));
                assert!(ran.is_ok(), "{}", path.display());
                count += 1;
            }
            assert!(count > 5, "{target} has {count} inputs");
        }
    }
}
