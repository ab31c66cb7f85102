//! Single values.

use serde_json::{Value as Json, json};

use super::{Kind, Property, refer};
use crate::evaluate::Evaluator;
use crate::problem::{At, Place};
use crate::value::{Text, short};
use crate::windows;

/// A single value as its type wants it.
pub(super) fn scalar(
    evaluator: &Evaluator<'_>,
    property: &Property,
    text: &Text,
    at: At,
    place: &Place,
) -> Option<Json> {
    let written = text.text.trim();
    let wrong = |message: String| {
        evaluator.findings.error(at, place, message);
        None
    };
    let shown = short(&text.text);
    match &property.kind {
        Kind::Bool => match written.to_ascii_lowercase().as_str() {
            "true" => Some(json!(true)),
            "false" => Some(json!(false)),
            "yes" | "on" if text.plain => Some(json!(true)),
            "no" | "off" if text.plain => Some(json!(false)),
            _ => wrong(format!("{shown:?} is neither true nor false")),
        },
        Kind::Int(least, most) => match whole(written) {
            Some(number) if (*least..=*most).contains(&number) => Some(json!(number)),
            Some(number) => wrong(format!("{number} is out of range: {least} to {most}")),
            None => wrong(format!("{shown:?} is not a whole number; {least} to {most} would be right")),
        },
        Kind::Digits(most) => {
            match written.len() <= *most && written.bytes().all(|byte| byte.is_ascii_digit()) {
                true => Some(json!(written)),
                false => wrong(format!("{shown:?} is not one to {most} digits, such as 0001")),
            }
        }
        Kind::Choice(words) => match words.iter().find(|word| word.eq_ignore_ascii_case(written)) {
            Some(word) => Some(json!(word)),
            None => {
                let hint = evaluator.findings.hint(written, words.iter().copied());
                wrong(format!("{shown:?} is not one of {}{hint}", words.join(", ")))
            }
        },
        Kind::Daily => match windows::daily(written) {
            Ok(_) => Some(json!(written)),
            Err(message) => wrong(format!("{shown:?}: {message}")),
        },
        Kind::Weekly => match windows::weekly(written) {
            Ok(_) => Some(json!(written.to_lowercase())),
            Err(message) => wrong(format!("{shown:?}: {message}")),
        },
        Kind::Reference(kind) => refer(evaluator, text, kind, at, place).map(Json::String),
        Kind::Text(most) | Kind::Word(most) if text.text.chars().count() > *most => {
            wrong(format!("this has more than {most} characters"))
        }
        Kind::Word(_) if written.is_empty() => wrong("this is nothing but spaces".to_owned()),
        Kind::Word(_) => Some(json!(written)),
        _ => Some(json!(text.text)),
    }
}

fn whole(text: &str) -> Option<i64> {
    let text = text.strip_suffix(".0").unwrap_or(text);
    text.parse().ok()
}
