//! What fuzzers have found worth keeping goes through their targets again.

use std::path::Path;

use testbed::fuzz::TARGETS;

#[test]
fn the_corpus_does_no_harm() {
    for (name, target) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files =
            std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut inputs = 0;
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            target(&std::fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 10, "{name} has a corpus of {inputs}");
    }
}
