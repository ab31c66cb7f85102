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

fn is_test(attribute: &str) -> bool {
    attribute == "#[test]" || attribute.starts_with("#[tokio::test")
}

/// The names of all tests of a file: functions under the attribute, and the lines `name: …` of a macro that puts it above them.
fn tests_of(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut makers: Vec<&str> = Vec::new();
    let (mut marked, mut defined, mut called) = (false, None, false);
    for line in text.lines().map(str::trim) {
        let signature = line.strip_prefix("async ").unwrap_or(line);
        if let Some(name) = line.strip_prefix("macro_rules! ") {
            defined = name.split(' ').next();
        } else if line.split_once("! {").is_some_and(|(name, rest)| rest.is_empty() && makers.contains(&name))
        {
            called = true;
        } else if line == "}" {
            (defined, called) = (None, false);
        } else if called && let Some((name, _)) = line.split_once(": ") {
            names.push(name);
        } else if is_test(line) {
            marked = true;
            continue;
        } else if let Some(rest) = signature.strip_prefix("fn ").filter(|_| marked) {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            match defined.filter(|_| name.starts_with('$')) {
                Some(maker) => makers.push(maker),
                None => names.push(name),
            }
        }
        marked = marked && (line.starts_with("#[") || line.starts_with("//"));
    }
    names
}

fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests", "crates", "src"] {
        sources(&root.join(folder), &mut files);
    }
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
    texts.flat_map(|text| tests_of(&text).into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn a_helper_is_no_test_and_what_a_macro_makes_is_one() {
    let text = "
        #[test]
        /// Why.
        #[ignore = \"slow\"]
        fn a_test() {}
        fn a_helper() { let not: u8 = 1; }
        #[tokio::test]
        async fn a_story() {}
        macro_rules! stories {
            ($($name:ident: $kind:ident,)+) => {
                $(
                    #[tokio::test]
                    async fn $name() {
                        helper();
                    }
                )+
            };
        }
        struct Other {
            field: u8,
        }
        stories! {
            made_by_the_macro: Kill,
        }
        others! {
            not_made: Kill,
        }";
    assert_eq!(tests_of(text), ["a_test", "a_story", "made_by_the_macro"]);
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
    let tests = tests();
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
            let missing = named.iter().filter(|name| !tests.contains(**name));
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
