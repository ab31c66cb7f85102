//! `kagami convert`: reads the template, prints manifests to the standard output and findings to the standard error.

use crate::args::{Convert, ConvertFormat};
use kagami_convert::{Format, MOST_BYTES_READ, Options, convert, decode, render};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::ExitCode;

pub(crate) fn command(arguments: &Convert) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(findings) => {
            let _ = writeln!(std::io::stderr(), "{findings}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Convert) -> Result<(), String> {
    let (file, template) = match arguments.template.as_str() {
        "-" => ("<stdin>".to_owned(), read(std::io::stdin().lock())),
        path => {
            (path.to_owned(), std::fs::File::open(path).map_err(|error| error.to_string()).and_then(read))
        }
    };
    let template = template.map_err(|error| format!("error: {file}: {error}"))?;
    let options = Options {
        file,
        parameters: pairs("--parameter", &arguments.parameters)?,
        region: arguments.region.clone(),
        account: arguments.account.clone(),
        stack_name: arguments.stack_name.clone(),
        imports: pairs("--import", &arguments.imports)?,
        namespace: arguments.namespace.clone(),
    };
    let converted = convert(&template, &options).map_err(|failure| {
        let warnings = failure.warnings.iter().map(|warning| format!("warning: {warning}"));
        let problems = failure.problems.iter().map(|problem| format!("error: {problem}"));
        warnings.chain(problems).collect::<Vec<_>>().join("\n")
    })?;
    let mut stderr = std::io::stderr();
    for warning in &converted.warnings {
        let _ = writeln!(stderr, "warning: {warning}");
    }
    for skipped in &converted.skipped {
        let _ = writeln!(stderr, "skipped: {} ({})", skipped.id, skipped.kind);
    }
    for (name, value) in &converted.outputs {
        let _ = writeln!(stderr, "output: {name} = {value}");
    }
    let format = match arguments.format {
        ConvertFormat::Yaml => Format::Yaml,
        ConvertFormat::HelmValues => Format::HelmValues,
    };
    std::io::stdout()
        .write_all(render(&converted, format).as_bytes())
        .map_err(|error| format!("standard output: {error}"))
}

/// Reads no more than a template may have: what is given may be any file, or never end.
fn read(from: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES_READ).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    decode(&bytes)
}

fn pairs(flag: &str, given: &[String]) -> Result<BTreeMap<String, String>, String> {
    given
        .iter()
        .map(|pair| {
            pair.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .ok_or_else(|| format!("{flag} {pair}: expected NAME=VALUE"))
        })
        .collect()
}
