//! What an expression of a template evaluates to.

use std::collections::BTreeMap;

use crate::problem::At;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// `AWS::NoValue`: as if the property were not written.
    Absent,
    /// A string, number or boolean.
    Text(Text),
    /// A list.
    List(Vec<Found>),
    /// A mapping.
    Map(Vec<Field>),
}

/// An entry of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) at: At,
    pub(crate) found: Found,
}

/// A scalar with what is known about where it comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    /// The text itself. Print [`Text::shown`] instead.
    pub(crate) text: String,
    pub(crate) masked: Option<String>,
    /// Whether it was written without quotes (then `yes` is a boolean).
    pub(crate) plain: bool,
    /// The resource that this is the `Ref` or `GetAtt` of, if it is nothing else.
    pub(crate) reference: Option<Reference>,
    /// Why the text is not known here, as a sentence.
    pub(crate) unknown: Option<String>,
    /// The secret that is in it.
    pub(crate) secret: Option<Secret>,
    /// Whether it names something that Kagami makes.
    pub(crate) mirrored: bool,
}

/// A resource that a text refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) id: String,
    /// The attribute, for `GetAtt`.
    pub(crate) attribute: Option<String>,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    /// A parameter with `NoEcho`.
    Parameter,
    /// A dynamic reference to Secrets Manager: the id of the secret and the key in it, if one is named.
    Manager { id: String, key: Option<String> },
    /// A dynamic reference to a secure parameter of Systems Manager.
    SecureParameter { name: String },
    /// A secret with other text around it.
    Mixed,
}

impl Text {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), plain: true, ..Self::default() }
    }

    pub(crate) fn unknown(placeholder: impl Into<String>, why: impl Into<String>) -> Self {
        Self { text: placeholder.into(), unknown: Some(why.into()), ..Self::default() }
    }

    pub(crate) fn secret(text: impl Into<String>, secret: Secret) -> Self {
        Self { text: text.into(), masked: Some("****".to_owned()), secret: Some(secret), ..Self::default() }
    }

    /// The text without its secrets.
    pub(crate) fn shown(&self) -> &str {
        self.masked.as_deref().unwrap_or(&self.text)
    }

    /// Adds `other` at the end, with all that is known about it.
    pub(crate) fn append(&mut self, other: &Self) {
        if self.masked.is_some() || other.masked.is_some() {
            let shown = format!("{}{}", self.shown(), other.shown());
            self.masked = Some(shown);
        }
        if let Some(secret) = &other.secret {
            let alone = self.text.is_empty() && self.secret.is_none();
            self.secret = Some(if alone { secret.clone() } else { Secret::Mixed });
        } else if self.secret.is_some() && !other.text.is_empty() {
            self.secret = Some(Secret::Mixed);
        }
        self.text.push_str(&other.text);
        self.reference = None;
        self.unknown = self.unknown.take().or_else(|| other.unknown.clone());
        self.mirrored |= other.mirrored;
    }

    /// Recognizes dynamic references (`{{resolve:service:…}}`) in a text that is complete. What `imports` has as `ssm:NAME`
    /// is the value of that parameter.
    pub(crate) fn resolve(mut self, imports: &BTreeMap<String, String>) -> Self {
        if !self.text.contains("{{resolve:") || self.secret.is_some() {
            return self;
        }
        let text = std::mem::take(&mut self.text);
        let mut done = Self { plain: self.plain, mirrored: self.mirrored, ..Self::default() };
        let mut rest = text.as_str();
        while let Some(start) = rest.find("{{resolve:") {
            let Some(length) = rest[start..].find("}}") else { break };
            let (before, reference) = (&rest[..start], &rest[start..start + length + 2]);
            done.append(&Self::plain(before));
            done.append(&dynamic(reference, imports));
            rest = &rest[start + length + 2..];
        }
        done.append(&Self::plain(rest));
        if done.secret.is_none() {
            done.unknown = self.unknown.or(done.unknown);
        }
        done
    }
}

fn dynamic(reference: &str, imports: &BTreeMap<String, String>) -> Text {
    let inner = reference.trim_start_matches("{{resolve:").trim_end_matches("}}");
    let (service, rest) = inner.split_once(':').unwrap_or((inner, ""));
    match service {
        "secretsmanager" => {
            // The id may be an ARN, which has colons of its own; SecretString ends it.
            let (id, key) = match rest.split_once(":SecretString") {
                Some((id, rest)) => (id, rest.strip_prefix(':').and_then(|rest| rest.split(':').next())),
                // SecretString may be left out; nothing is left out of an ARN.
                None => match rest.split_once("::") {
                    Some((id, rest)) => (id, rest.split(':').next()),
                    None => (rest, None),
                },
            };
            let key = key.filter(|key| !key.is_empty()).map(str::to_owned);
            Text::secret(reference, Secret::Manager { id: id.to_owned(), key })
        }
        "ssm-secure" => {
            let name = rest.split(':').next().unwrap_or(rest).to_owned();
            Text::secret(reference, Secret::SecureParameter { name })
        }
        "ssm" => {
            let name = rest.split(':').next().unwrap_or(rest);
            let import = format!("ssm:{name}");
            match imports.get(&import) {
                Some(value) => Text::plain(value),
                None => {
                    let name = short(name);
                    let why = format!(
                        "the SSM parameter {name} can only be read on AWS: give its value with --import ssm:{name}=VALUE"
                    );
                    Text::unknown(reference, why)
                }
            }
        }
        other => {
            let why =
                format!("{other} is not a service of dynamic references (ssm, ssm-secure, secretsmanager)");
            Text::unknown(reference, why)
        }
    }
}

impl Value {
    /// `a list`, `a mapping` …, for messages.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Absent => "nothing".to_owned(),
            Self::Text(text) => format!("{:?}", short(text.shown())),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// A text that fits into a message.
pub(crate) fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}
