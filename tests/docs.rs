//! What the documentation says is proven: each line names a test, and each named test exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of all functions, and of the stories that a macro makes (`name: Kind 1 false`).
fn functions() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests", "crates", "src"] {
        sources(&root.join(folder), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
            let line = line.trim();
            let line = line.strip_prefix("async ").unwrap_or(line);
            if let Some(rest) = line.strip_prefix("fn ") {
                names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            } else if let Some((name, _)) = line.split_once(": ") {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

/// Words in backticks that read like the name of a test.
fn tests_named(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let snake = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    quoted.filter(|word| snake(word) && word.matches('_').count() >= 3).collect()
}

#[test]
fn every_line_about_guarantees_and_failures_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let functions = functions();
    let mut wrong = Vec::new();
    for page in ["docs/guarantees.md", "docs/failure-modes.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap_or_default();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert!(rows.len() > 5, "{page} has only {} rows", rows.len());
        for line in text.lines() {
            let named = tests_named(line);
            let heading = line.contains("| tests |");
            if line.starts_with("| ") && !heading && named.is_empty() {
                wrong.push(format!("{page}: no test is named: {line}"));
            }
            let missing = named.iter().filter(|name| !functions.contains(**name));
            wrong.extend(missing.map(|name| format!("{page}: there is no test {name}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_reason_that_the_pages_show_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/failure-modes.md")).unwrap_or_default();
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.contains("| tests |")) {
        let shown = line.split('|').nth(2).unwrap_or_default();
        let words = shown.split('`').skip(1).step_by(2).filter(|word| !word.contains(['.', ' ', '/']));
        for word in words {
            assert!(word.parse::<kagami_api::reason::Reason>().is_ok(), "{word} is no reason: {line}");
        }
    }
}
