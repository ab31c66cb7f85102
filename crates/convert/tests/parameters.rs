//! Parameters: of a template, and of a parameter group.

mod common;

use common::{options, problems};
use kagami_convert::convert;

#[test]
fn parameters_are_held_to_what_the_template_allows() {
    let template = |rules: &str| format!("Parameters:\n  P: {{{rules}}}\nResources: {{}}");
    for (rules, given, sentence) in [
        (
            "Type: String",
            None,
            "t:2:3: Parameters.P: the parameter has no default: give its value with --parameter P=VALUE",
        ),
        ("Type: Number", Some("many"), "\"many\" is not a number"),
        ("Type: String, AllowedValues: [a, b]", Some("c"), "\"c\" is not one of the allowed values: a, b"),
        ("Type: Number, MaxValue: 5", Some("6"), "\"6\" is more than the 5 of MaxValue"),
        ("Type: Number, MinValue: '2'", Some("1"), "\"1\" is less than the 2 of MinValue"),
        ("Type: String, MinLength: 3", Some("ab"), "is less than the 3 characters of MinLength"),
        ("Type: String, AllowedPattern: '[a-z]+', ConstraintDescription: letters", Some("a1"), "(letters)"),
        ("Type: String, NoEcho: true, AllowedPattern: '[a-z]+'", Some("hunter2"), "\"****\" does not match"),
        ("Type: CommaDelimitedList, AllowedValues: [a, b]", Some("a,c"), "\"c\" is not one of"),
        ("Type: Strin, Default: x", None, "\"Strin\" is not a type of parameters; did you mean String?"),
        ("Type: AWS::EC2::Subnets::Id, Default: x", None, "did you mean AWS::EC2::Subnet::Id?"),
        ("Type: AWS::Foo::Bar, Default: x", None, "\"AWS::Foo::Bar\" is not a type of parameters"),
        ("Type: List<Strin>, Default: x", None, "\"List<Strin>\" is not a type of parameters"),
        ("Type: Number, Default: 1, MaxValue: five", None, "P.MaxValue: expected a number, found \"five\""),
        ("Type: String, Default: a, MinLength: 1.5", None, "P.MinLength: expected a whole number"),
        ("Type: String, Default: a, AllowedValues: a", None, "P.AllowedValues: expected a list of texts"),
        ("Type: String, Default: a, AllowedValues: [[a]]", None, "P.AllowedValues: expected a list of texts"),
        (
            "Type: 'AWS::SSM::Parameter::Value<String>', Default: /a",
            Some("/a"),
            "\"/a\" is the name of the parameter on AWS: give the value that it has there",
        ),
        ("Type: String, Defualt: x", None, "a parameter has no such field; did you mean Default?"),
        ("Type: String, Default: [a]", None, "a default is a string or a number; this is a list"),
    ] {
        let mut options = options("t");
        options.parameters.extend(given.map(|value| ("P".to_owned(), value.to_owned())));
        let told = problems(&template(rules), &options);
        assert!(told.iter().any(|problem| problem.contains(sentence)), "{rules}: {told:#?}");
        assert!(!told.iter().any(|problem| problem.contains("hunter2")), "{rules}: {told:#?}");
    }
    let no_list = problems(&template("Type: String, Default: q, AllowedValues: a"), &options("t"));
    assert_eq!(no_list.len(), 1, "{no_list:#?}");
    let mut unknown = options("t");
    unknown.parameters.insert("Q".to_owned(), "x".to_owned());
    assert!(
        problems(&template("Type: String, Default: x"), &unknown)[0]
            .contains("--parameter Q: the template has no such")
    );
}

#[test]
fn parameters_of_a_family_that_is_offered_no_more_have_their_new_names() {
    let group = |parameters: &str| {
        format!(
            "Resources:\n  P:\n    Type: AWS::ElastiCache::ParameterGroup\n    Properties:\n      CacheParameterGroupFamily: redis5.0\n      \
             Description: d\n      Properties: {{{parameters}}}\n"
        )
    };
    let converted = convert(&group("min-slaves-to-write: '1', timeout: '60'"), &options("t")).unwrap();
    assert_eq!(
        converted.manifests[0]["spec"]["properties"],
        serde_json::json!({"min-replicas-to-write": "1", "timeout": "60"})
    );
    let told: Vec<String> = converted.warnings.iter().map(ToString::to_string).collect();
    let renamed = "t:7:20: P.Properties.Properties.min-slaves-to-write: it is called min-replicas-to-write in the family redis6.x";
    assert!(told.iter().any(|told| told == renamed), "{told:#?}");
    let told = problems(&group("lua-nothing: '1'"), &options("t"));
    assert!(
        told[0].contains("in the family redis6.x, which stands in for the one that is written"),
        "{told:#?}"
    );
}
