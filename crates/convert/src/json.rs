//! JSON into a tree: its own reader, as YAML's refuses tabs and knows other escapes.

use std::collections::HashMap;
use std::rc::Rc;

use crate::problem::{At, Findings, Place};
use crate::tree::{Body, Entry, MOST_DEPTH, Node};

/// Reads `text`, or reports the first place where it is not JSON.
pub(crate) fn read(text: &str, findings: &Findings) -> Option<Rc<Node>> {
    let mut reader = Reader { rest: text, at: At { line: 1, column: 1 }, findings, sound: true };
    let read = reader.value(0).and_then(|node| {
        reader.space();
        match reader.rest.is_empty() {
            true => Ok(node),
            false => Err("more text after the end of the template".to_owned()),
        }
    });
    match read {
        Ok(node) => Some(node).filter(|_| reader.sound),
        Err(message) => {
            findings.error(reader.at, &Place::default(), format!("this is not JSON: {message}"));
            None
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    at: At,
    findings: &'a Findings,
    sound: bool,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.at = At { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.next();
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.peek() {
            Some(c) if c == wanted => {
                self.next();
                Ok(())
            }
            Some(c) => Err(format!("expected {wanted:?}, found {c:?}")),
            None => Err(format!("expected {wanted:?}, found the end of the template")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Rc<Node>, String> {
        let too_deep = || format!("nested more than {MOST_DEPTH} levels deep");
        if depth >= MOST_DEPTH {
            return Err(too_deep());
        }
        self.space();
        let at = self.at;
        let body = match self.peek() {
            Some('{') => self.map(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => Body::Scalar { text: self.string()?, plain: false },
            Some(_) => Body::Scalar { text: self.word()?, plain: true },
            None => return Err("the template ends too early".to_owned()),
        };
        Node::new(at, body).ok_or_else(too_deep)
    }

    fn map(&mut self, depth: usize) -> Result<Body, String> {
        self.expect('{')?;
        let mut entries = Vec::new();
        let mut seen: HashMap<String, At> = HashMap::new();
        self.space();
        while self.peek() != Some('}') {
            if !entries.is_empty() {
                self.expect(',')?;
                self.space();
            }
            let at = self.at;
            let key = self.string()?;
            self.space();
            self.expect(':')?;
            let value = self.value(depth + 1)?;
            if let Some(first) = seen.insert(key.clone(), at) {
                self.sound = false;
                let message = format!("{key} is written twice in one mapping, first in line {}", first.line);
                self.findings.error(at, &Place::default(), message);
            }
            entries.push(Entry { key, at, value });
            self.space();
        }
        self.expect('}')?;
        Ok(Body::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Body, String> {
        self.expect('[')?;
        let mut items = Vec::new();
        self.space();
        while self.peek() != Some(']') {
            if !items.is_empty() {
                self.expect(',')?;
            }
            items.push(self.value(depth + 1)?);
            self.space();
        }
        self.expect(']')?;
        Ok(Body::List(items))
    }

    fn word(&mut self) -> Result<String, String> {
        let word: String = self
            .rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
            .collect();
        let sound = serde_json::from_str::<serde_json::Value>(&word).is_ok();
        if !sound {
            let found = self.peek().map(String::from).unwrap_or_default();
            return Err(format!("expected a value, found {:?}", if word.is_empty() { found } else { word }));
        }
        for _ in word.chars() {
            self.next();
        }
        Ok(word)
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(c) => text.push(c),
                None => return Err("a string without an end".to_owned()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        Ok(match self.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('u') => {
                let high = self.hex()?;
                let code = if (0xd800..0xdc00).contains(&high) {
                    if !self.rest.starts_with("\\u") {
                        return Err("half of a surrogate pair".to_owned());
                    }
                    self.next();
                    self.next();
                    let low = self.hex()?;
                    0x1_0000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    high
                };
                char::from_u32(code).ok_or("half of a surrogate pair")?
            }
            _ => return Err("an unknown escape in a string".to_owned()),
        })
    }

    fn hex(&mut self) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..4 {
            let digit =
                self.next().and_then(|c| c.to_digit(16)).ok_or("\\u needs four hexadecimal digits")?;
            code = code * 16 + digit;
        }
        Ok(code)
    }
}
