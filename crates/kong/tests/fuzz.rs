//! The inputs of the fuzz targets, run as an ordinary test.

use std::path::Path;

/// What the fuzz targets promise holds for every committed input.
#[test]
fn committed_inputs_break_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (target, entry) in o28m_kong::fuzz::TARGETS {
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
