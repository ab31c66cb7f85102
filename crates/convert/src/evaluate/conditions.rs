//! The section Conditions.

use super::Evaluator;
use crate::problem::Place;
use crate::tree::Node;
use crate::value::short;

impl Evaluator<'_> {
    /// An expression of the section Conditions.
    pub(super) fn test(&self, node: &Node, place: &Place) -> Option<bool> {
        let _level = self.enter(node.at, place)?;
        let call = match node.entries() {
            Some([only]) => only,
            _ => {
                let message = format!("expected a function such as Fn::Equals, found {}", node.kind());
                self.findings.error(node.at, place, message);
                return None;
            }
        };
        match call.key.as_str() {
            "Condition" => match call.value.text() {
                Some(name) => self.condition(name, call.value.at, place),
                None => self.wants(call, place, "the name of a condition"),
            },
            "Fn::Equals" => {
                let arguments = self.arguments(call, place, 2..=2, "value, value")?;
                let left = self.text(&arguments[0], place);
                let right = self.text(&arguments[1], place);
                Some(left?.text == right?.text)
            }
            "Fn::Not" => {
                let arguments = self.arguments(call, place, 1..=1, "condition")?;
                Some(!self.test(&arguments[0], place)?)
            }
            name @ ("Fn::And" | "Fn::Or") => {
                let arguments = self.arguments(call, place, 1..=10, "two to ten conditions")?;
                let results: Vec<Option<bool>> =
                    arguments.iter().map(|argument| self.test(argument, place)).collect();
                let results: Option<Vec<bool>> = results.into_iter().collect();
                let mut results = results?.into_iter();
                Some(if name == "Fn::And" { results.all(|holds| holds) } else { results.any(|holds| holds) })
            }
            unknown => {
                let known = ["Condition", "Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or"];
                let message =
                    format!("{} is not a condition{}", short(unknown), self.findings.hint(unknown, known));
                self.findings.error(call.at, place, message);
                None
            }
        }
    }
}
