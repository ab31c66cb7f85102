//! A template may come from anybody: nothing makes the converter panic or hang.

mod common;

use std::time::{Duration, Instant};

use common::options;
use kagami_convert::{Format, Options, convert, decode, render};
use proptest::prelude::*;

const FIXTURES: &[&str] = &[
    include_str!("fixtures/seed.yaml"),
    include_str!("fixtures/plain.json"),
    include_str!("fixtures/slots.yaml"),
    include_str!("fixtures/conditions.yaml"),
    include_str!("fixtures/fragment.yaml"),
    include_str!("fixtures/bad.yaml"),
    include_str!("fixtures/exported.yaml"),
    include_str!("fixtures/shapes/conditional-mode.yaml"),
    include_str!("fixtures/shapes/quickstart.template"),
    include_str!("fixtures/shapes/valkey.yaml"),
    include_str!("fixtures/wild/anchors.yaml"),
    include_str!("fixtures/wild/cdk.json"),
    include_str!("fixtures/wild/nested.yaml"),
];

/// Pieces that mean something to the converter.
const PIECES: &[&str] = &[
    "!Ref ",
    "!Sub ",
    "${",
    "}",
    "!GetAtt ",
    "Group",
    "ReplicationGroup",
    ".Port",
    "!If [",
    "]",
    "{",
    ": ",
    "\n",
    "  ",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "{{resolve:secretsmanager:",
    "}}",
    "Fn::Join",
    "AWS::Region",
    "~",
    "\"",
    "'",
    "|\n",
    "? ",
    "\u{feff}",
    "\u{0}",
    "\t",
    "#",
    "!",
    "!!str ",
    "%YAML 1.1\n",
    "---\n",
    "...\n",
    "-1",
    "1e999",
    "é",
    "\u{1f980}",
    "\\u",
    "\r",
];

fn attempt(text: &str) {
    let options = Options {
        region: Some("eu-central-1".into()),
        account: Some("1".into()),
        stack_name: Some("s".into()),
        ..options("t")
    };
    match convert(text, &options) {
        Ok(converted) => {
            common::admitted(&converted);
            render(&converted, Format::Yaml);
            render(&converted, Format::HelmValues);
        }
        Err(failure) => {
            assert!(!failure.problems.is_empty());
            failure
                .problems
                .iter()
                .for_each(|problem| assert!(problem.line > 0 && problem.column > 0, "{problem}"));
        }
    }
}

/// How often each property is tried; `PROPTEST_CASES` for a long night.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_text_gives_an_answer(text in any::<String>()) {
        attempt(&text);
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400), marked in any::<bool>()) {
        attempt(&String::from_utf8_lossy(&bytes));
        let marked = if marked { [&[0xff, 0xfe], &bytes[..]].concat() } else { bytes };
        if let Ok(text) = decode(&marked) {
            attempt(&text);
        }
    }

    #[test]
    fn any_pile_of_pieces_gives_an_answer(pieces in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        attempt(&pieces.iter().map(|piece| PIECES[*piece]).collect::<String>());
    }

    #[test]
    fn a_broken_template_gives_an_answer(
        fixture in 0..FIXTURES.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..12usize, 0..PIECES.len(), any::<bool>()), 1..6),
    ) {
        let mut chars: Vec<char> = FIXTURES[fixture].chars().collect();
        for (place, length, piece, moves) in changes {
            let start = place.index(chars.len());
            let end = (start + length).min(chars.len());
            let cut: Vec<char> = chars.drain(start..end).collect();
            if moves {
                let to = place.index(chars.len().max(1)) / 2;
                chars.splice(to..to, cut);
            } else {
                chars.splice(start..start, PIECES[piece].chars());
            }
        }
        attempt(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn a_template_whose_lines_were_shuffled_gives_an_answer(
        fixture in 0..FIXTURES.len(),
        swaps in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8),
    ) {
        let mut lines: Vec<&str> = FIXTURES[fixture].lines().collect();
        for (a, b) in swaps {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        attempt(&lines.join("\n"));
    }
}

/// A bound that a machine under load keeps too, without optimization; the release build is at least ten times faster.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn bombs_do_not_go_off() {
    let group = |value: &str| {
        format!(
            "Resources:\n  G:\n    Type: AWS::ElastiCache::ReplicationGroup\n    Properties:\n      \
             ReplicationGroupDescription: {value}\n"
        )
    };
    let doubling = |most: usize, first: &str, step: &dyn Fn(usize) -> String| {
        let mut text = format!("X:\n  - &a0 {first}\n");
        (1..most).for_each(|level| text.push_str(&format!("  - &a{level} {}\n", step(level - 1))));
        text
    };
    let twice = |level: usize| format!("!Join ['', [*a{level}, *a{level}]]");
    let joins = |most: usize| doubling(most, "x", &twice).replace("X:", "Metadata:");
    let lists = |most: usize| {
        doubling(most, "[x, x]", &|level| format!("[*a{level}, *a{level}]")).replace("X:", "Metadata:")
    };
    let chain = |from: usize, to: usize| {
        let mut text = String::from("Conditions:\n");
        (from..to).for_each(|at| text.push_str(&format!("  C{at}: !Not [!Condition C{}]\n", at + 1)));
        text + &format!("  C{to}: !Equals [a, a]\n")
    };
    let megabyte = |piece: &str| piece.repeat((1 << 20) / piece.len() - 200);
    let table: Vec<(&str, String)> = vec![
        ("brackets", "[".repeat(100_000)),
        ("braces", "{\"a\":".repeat(100_000)),
        ("dashes", "- ".repeat(100_000)),
        ("question marks", "? ".repeat(50_000)),
        ("indentation", (0..1_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect()),
        ("tags", "!Ref ".repeat(10_000)),
        ("an alias bomb", lists(60)),
        ("a bomb of lists", lists(30) + &group("*a29")),
        ("a bomb of joins", joins(24) + &group("*a23")),
        ("a bomb of empty joins", joins(24).replace("&a0 x", "&a0 ''") + &group("*a23")),
        (
            "a long text, many times",
            "Metadata: &a \"".to_owned()
                + &"x".repeat(500_000)
                + "\"\n"
                + &group(&format!("!Join ['', [{}]]", "*a, ".repeat(60_000))),
        ),
        (
            "a long reference, many times",
            "Metadata: &a {Ref: \"".to_owned()
                + &"x".repeat(500_000)
                + "\"}\n"
                + &group(&format!("!Join ['', [{}]]", "*a, ".repeat(60_000))),
        ),
        (
            "a long key, many times",
            "Metadata: &a {\"".to_owned()
                + &"x".repeat(500_000)
                + "\": 1}\n"
                + &group(&format!("[{}]", "*a, ".repeat(60_000))),
        ),
        (
            "unknown references",
            (0..15_000)
                .map(|at| format!("  Resource{at}: {{Type: x}}\n"))
                .fold("Resources:\n".to_owned(), |all, one| all + &one)
                + &group(&format!(
                    "!Join ['', [{}]]",
                    (0..20_000).map(|at| format!("!Ref Resourse{at}, ")).collect::<String>()
                ))
                .replace("Resources:\n", ""),
        ),
        (
            "one unknown reference, many times",
            (0..15_000)
                .map(|at| format!("  Resource{at}: {{Type: x}}\n"))
                .fold("Metadata: &a !Ref Resourse\nResources:\n".to_owned(), |all, one| all + &one)
                + &group(&format!("!Join ['', [{}]]", "*a, ".repeat(100_000))).replace("Resources:\n", ""),
        ),
        (
            "variables of variables",
            group(&format!(
                "!Sub ['{}', {{{}}}]",
                "${v}".repeat(100_000),
                (0..40_000).map(|at| format!("v{at}: '', ")).collect::<String>() + "v: ''"
            )),
        ),
        (
            "a large mapping, asked often",
            format!(
                "Mappings: {{M: {{k: {{{}}}}}}}\n",
                (0..40_000).map(|at| format!("k{at}: v, ")).collect::<String>()
            ) + &group(&format!("!Join ['', [{}]]", "!FindInMap [M, k, k39999], ".repeat(15_000))),
        ),
        (
            "allowed values of many parameters",
            format!(
                "Metadata: &a [{}]\nParameters:\n{}Resources: {{}}\n",
                (0..60_000).map(|at| format!("v{at}, ")).collect::<String>(),
                (0..200)
                    .map(|at| format!(
                        "  P{at}: {{Type: CommaDelimitedList, AllowedValues: *a, Default: '{}'}}\n",
                        "v59999,".repeat(300)
                    ))
                    .collect::<String>()
            ),
        ),
        (
            "a bomb of merge keys",
            doubling(
                200,
                &format!("{{{}}}", (0..500).map(|at| format!("k{at}: 1, ")).collect::<String>()),
                &|level| format!("{{<<: [*a{level}, *a{level}], n{level}: 1}}"),
            )
            .replace("X:", "Metadata:")
                + &group("x"),
        ),
        (
            "a wide list of merges",
            "Metadata:\n  - &a {".to_owned()
                + &(0..20_000).map(|at| format!("k{at}: 1, ")).collect::<String>()
                + "}\n  - {<<: ["
                + &"*a, ".repeat(100_000)
                + "]}\n"
                + &group("x"),
        ),
        (
            "outputs of shared nodes",
            lists(60)
                + &group("x")
                + "Outputs:\n"
                + &(0..10_000).map(|at| format!("  O{at}: {{Value: *a59}}\n")).collect::<String>(),
        ),
        (
            "outputs of text",
            group("x")
                + "Outputs:\n"
                + &(0..200)
                    .map(|at| format!("  O{at}: {{Value: !Sub '{}'}}\n", "${AWS::Region}".repeat(300)))
                    .collect::<String>(),
        ),
        (
            "a mountain of metadata",
            group("x")
                + "    Metadata: {elasticache.kagami.dev: {kubernetes: {podLabels: {"
                + &(0..40_000).map(|at| format!("k{at}: v, ")).collect::<String>()
                + "}}}}\n",
        ),
        ("a chain of conditions", chain(0, 5_000) + &group("!If [C0, a, b]")),
        (
            "a circle of conditions",
            "Conditions: {A: !Condition B, B: !Condition A}\n".to_owned() + &group("!If [A, a, b]"),
        ),
        ("itself", group("!Sub '${G}'").replace("ReplicationGroupDescription", "ReplicationGroupId")),
        ("a long key", format!("Resources:\n  ? {}\n  : {{}}\n", "k".repeat(500_000))),
        ("many keys", (0..60_000).map(|key| format!("k{key}: 1\n")).collect()),
        ("the same key", "k: 1\n".repeat(60_000)),
        ("many variables", group(&format!("!Sub '{}'", "${G}".repeat(100_000)))),
        ("open variables", group(&format!("!Sub '{}'", "${".repeat(200_000)))),
        ("dynamic references", group(&format!("'{}'", "{{resolve:".repeat(50_000)))),
        ("secrets", group(&format!("'{}'", "{{resolve:secretsmanager:x}}".repeat(20_000)))),
        ("words", megabyte("word ")),
        ("comments", megabyte("# comment\n")),
        ("a megabyte and more", megabyte("abcd") + &"abcd".repeat(1000)),
        ("quotes", megabyte("'a' ")),
        ("colons", megabyte("a: ")),
        (
            "a heavy pattern",
            format!(
                "Parameters:\n  P: {{Type: String, AllowedPattern: '((((a{{30}}){{30}}){{30}}){{30}})*', Default: {}}}\nResources: {{}}\n",
                "a".repeat(4000)
            ),
        ),
        (
            "many heavy patterns",
            format!(
                "Parameters:\n{}Resources: {{}}\n",
                (0..200)
                    .map(|at| format!(
                        "  P{at}: {{Type: String, AllowedPattern: '(a|aa|aaa)*b', Default: {}}}\n",
                        "a".repeat(4000)
                    ))
                    .collect::<String>()
            ),
        ),
        (
            "nodes",
            group("!GetAtt G.PrimaryEndPoint.Address").to_string()
                + "Outputs:\n"
                + &(0..10_000)
                    .map(|at| format!("  O{at}: {{Value: !GetAtt G.ReadEndPoint.Addresses}}\n"))
                    .collect::<String>(),
        ),
    ];
    for (what, text) in table {
        let start = Instant::now();
        assert!(text.len() <= 1 << 20 || what == "a megabyte and more", "{what}: {}", text.len());
        attempt(&text);
        assert!(start.elapsed() < LONGEST, "{what} took {:?}", start.elapsed());
        println!("{what}: {:?}", start.elapsed());
    }
}

/// What a megabyte may take. A build without optimization takes seven times as long, and shares its machine with other tests.
const MEGABYTE_LONGEST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 1 });

#[test]
fn a_megabyte_of_groups_is_converted_in_its_time() {
    let mut text = String::from("Parameters:\n  Prefix: {Type: String, Default: p}\nResources:\n");
    let mut count = 0;
    while text.len() < (1 << 20) - 1_000 {
        text.push_str(&format!(
            "  Group{count}:\n    Type: AWS::ElastiCache::ReplicationGroup\n    Properties:\n      \
             ReplicationGroupId: !Sub '${{Prefix}}-{count}'\n      ReplicationGroupDescription: !Join ['-', [a, !Ref Prefix]]\n      \
             CacheNodeType: cache.t4g.micro\n      Engine: redis\n      EngineVersion: 7.1\n      NumNodeGroups: '2'\n      \
             ReplicasPerNodeGroup: 1\n      SecurityGroupIds: [!Ref Guard]\n"
        ));
        count += 1;
    }
    text.push_str(
        "  Guard:\n    Type: AWS::EC2::SecurityGroup\n    Properties:\n      GroupDescription: g\n      SecurityGroupIngress:\n        \
         - {IpProtocol: tcp, FromPort: 6379, ToPort: 6379, CidrIp: 10.0.0.0/8}\n",
    );
    let start = Instant::now();
    let converted = convert(&text, &options("t")).unwrap();
    println!("{count} groups, {} bytes: {:?}", text.len(), start.elapsed());
    assert_eq!(converted.manifests.len(), count + 1);
    assert!(start.elapsed() < MEGABYTE_LONGEST);
}
