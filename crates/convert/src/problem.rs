//! What is wrong with a template, said where it stands.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

/// One thing that is wrong (or worth knowing), with the place in the template that it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The name of the template, as given in [`crate::Options::file`].
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The logical id of the resource, where the problem is inside one.
    pub resource: Option<String>,
    /// The path of the property, such as `Properties.Port` or `Parameters.Prefix.Default`.
    pub property: Option<String>,
    /// A sentence that says what is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        match (&self.resource, &self.property) {
            (Some(resource), Some(property)) => write!(f, "{resource}.{property}: ")?,
            (Some(only), None) | (None, Some(only)) => write!(f, "{only}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Why a template does not convert, and what is worth knowing besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Everything that is wrong with it, in its order; there is always something.
    pub problems: Vec<Problem>,
    /// What is worth knowing, in the order of the template.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Failure {}

/// A position in the template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// What a value belongs to, for messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) resource: Option<String>,
    pub(crate) property: Option<String>,
}

impl Place {
    pub(crate) fn resource(id: &str) -> Self {
        Self { resource: Some(id.to_owned()), property: None }
    }

    pub(crate) fn section(path: impl Into<String>) -> Self {
        Self { resource: None, property: Some(path.into()) }
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        let property = match &self.property {
            Some(path) => format!("{path}.{name}"),
            None => name.to_owned(),
        };
        Self { resource: self.resource.clone(), property: Some(property) }
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        let path = self.property.as_deref().unwrap_or_default();
        Self { resource: self.resource.clone(), property: Some(format!("{path}[{index}]")) }
    }
}

/// More than this and nobody reads on; it also bounds the work that a hostile template can cause.
const MOST_PROBLEMS: usize = 100;

/// The problems and warnings found so far. Each is kept once: the same value may be read from several places.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    file: String,
    problems: RefCell<BTreeSet<Problem>>,
    warnings: RefCell<BTreeSet<Problem>>,
    beyond: Cell<usize>,
    quiet: Cell<bool>,
    hints: Cell<usize>,
}

impl Findings {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    fn problem(&self, at: At, place: &Place, message: String) -> Problem {
        Problem {
            file: self.file.clone(),
            line: at.line as usize,
            column: at.column as usize,
            resource: place.resource.clone(),
            property: place.property.clone(),
            message,
        }
    }

    pub(crate) fn error(&self, at: At, place: &Place, message: impl Into<String>) {
        if self.quiet.get() {
            return;
        }
        if self.full() {
            self.beyond.set(self.beyond.get() + 1);
            return;
        }
        self.problems.borrow_mut().insert(self.problem(at, place, message.into()));
    }

    pub(crate) fn warn(&self, at: At, place: &Place, message: impl Into<String>) {
        if self.quiet.get() {
            return;
        }
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MOST_PROBLEMS * 10 {
            warnings.insert(self.problem(at, place, message.into()));
        }
    }

    /// Whether a warning about the resource has said this.
    pub(crate) fn has_warned(&self, place: &Place, message: &str) -> bool {
        let warnings = self.warnings.borrow();
        warnings
            .iter()
            .any(|warning| warning.resource == place.resource && warning.message.ends_with(message))
    }

    /// `; did you mean X?`, or nothing. Looking for it takes time, which is not spent on what nobody will read.
    pub(crate) fn hint<'a>(&self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
        if self.quiet.get() || self.hints.get() >= MOST_PROBLEMS {
            return String::new();
        }
        self.hints.set(self.hints.get() + 1);
        kagami_api::nearest::hint(word, candidates)
    }

    /// Does something that may fail without anybody being told.
    pub(crate) fn quietly<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.quiet.replace(true);
        let result = work();
        self.quiet.set(before);
        result
    }

    /// Whether problems are being dropped, so that a failure must not be remembered as reported.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.get()
    }

    /// Whether a problem was found.
    pub(crate) fn any(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Whether no further problem would be shown.
    fn full(&self) -> bool {
        self.problems.borrow().len() >= MOST_PROBLEMS
    }

    /// The properties of a resource that a problem was told of.
    pub(crate) fn told(&self, place: &Place) -> BTreeSet<String> {
        let problems = self.problems.borrow();
        let own = problems.iter().filter(|problem| problem.resource == place.resource);
        let path = own.filter_map(|problem| problem.property.as_deref()?.strip_prefix("Properties."));
        path.filter_map(|path| path.split(['.', '[']).next().map(str::to_owned)).collect()
    }

    /// The problems and the warnings.
    pub(crate) fn settle(self) -> (Vec<Problem>, Vec<Problem>) {
        let mut problems: Vec<Problem> = self.problems.into_inner().into_iter().collect();
        let warnings = self.warnings.into_inner().into_iter().collect();
        if self.beyond.get() > 0
            && let Some(last) = problems.last().cloned()
        {
            let message = format!("{} more problems are not shown", self.beyond.get());
            problems.push(Problem { resource: None, property: None, message, ..last });
        }
        (problems, warnings)
    }
}
