//! A connection to an engine, as plain as can be.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What is answered; errors with their code first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Error(String),
    Nil,
    Many(Vec<Value>),
}

impl Value {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Error(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Nil => String::new(),
            Self::Many(values) => values.iter().map(Self::text).collect::<Vec<_>>().join("\n"),
        }
    }
}

pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(port: u16, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(crate) fn send<S: AsRef<str>>(&mut self, words: &[S]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            let word = word.as_ref();
            bytes += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(bytes.as_bytes())
    }

    pub(crate) fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        Ok(match kind {
            "+" => Value::Text(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Number(number()?),
            "$" if rest == "-1" => Value::Nil,
            "$" => {
                let mut bytes = vec![0; usize::try_from(number()?).unwrap() + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Value::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let count = usize::try_from(number()?).unwrap_or(0);
                Value::Many((0..count).map(|_| self.read()).collect::<io::Result<_>>()?)
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }

    pub(crate) fn ask<S: AsRef<str>>(&mut self, words: &[S]) -> io::Result<Value> {
        self.send(words)?;
        self.read()
    }
}
