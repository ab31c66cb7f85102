//! An engine as a client sees it: commands and answers over any stream, with nothing clever between.
//!
//! No client library, because these stories are about what an engine answers (MOVED, READONLY, silence), and a library hides
//! just that behind retries.

use super::tools::seconds;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Number(i64),
    Error(String),
    Nothing,
    List(Vec<Self>),
}

impl Reply {
    /// The text, unless it is something else.
    pub(crate) fn text(self) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Number(number) => Ok(number.to_string()),
            Self::Error(words) => bail!("the engine says: {words}"),
            other => bail!("not a text: {other:?}"),
        }
    }
    /// The number, unless it is something else.
    pub(crate) fn number(self) -> Result<i64> {
        match self {
            Self::Number(number) => Ok(number),
            other => Ok(other.text()?.parse()?),
        }
    }
    /// Where the engine sends the client.
    pub(crate) fn moved_to(&self) -> Option<&str> {
        match self {
            Self::Error(words) => words.strip_prefix("MOVED ")?.split(' ').nth(1)?.split(':').next(),
            _ => None,
        }
    }
}

/// One connection.
pub(crate) struct Connection {
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    limit: Duration,
    _child: Option<Child>,
}

impl Connection {
    /// Over TCP.
    pub(crate) async fn dial(ip: &str, port: u16) -> Result<Self> {
        let stream = tokio::time::timeout(seconds(1), TcpStream::connect((ip, port)))
            .await
            .with_context(|| format!("{ip}:{port} does not answer"))?
            .with_context(|| format!("{ip}:{port}"))?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self {
            reader: BufReader::new(Box::new(reader)),
            writer: Box::new(writer),
            limit: seconds(2),
            _child: None,
        })
    }

    /// Over the standard streams of a program.
    pub(crate) async fn over(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(writer), Some(reader)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the program has no streams")
        };
        let mut connection = Self {
            reader: BufReader::new(Box::new(reader)),
            writer: Box::new(writer),
            limit: seconds(5),
            _child: Some(child),
        };
        connection.command(&["PING"]).await?;
        Ok(connection)
    }

    /// How long an answer is waited for.
    pub(crate) fn patience(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// One command and its answer.
    pub(crate) async fn command(&mut self, words: &[&str]) -> Result<Reply> {
        let mut replies = self.pipeline(&[words.iter().map(|word| (*word).to_owned()).collect()]).await?;
        replies.pop().context("no answer")
    }

    /// Many commands at once and their answers.
    pub(crate) async fn pipeline(&mut self, commands: &[Vec<String>]) -> Result<Vec<Reply>> {
        let mut bytes = Vec::new();
        for words in commands {
            bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
            for word in words {
                bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
            }
        }
        let talk = async {
            self.writer.write_all(&bytes).await?;
            self.writer.flush().await?;
            let mut replies = Vec::with_capacity(commands.len());
            for _ in commands {
                replies.push(read(&mut self.reader).await?);
            }
            Ok(replies)
        };
        tokio::time::timeout(self.limit, talk).await.context("the engine does not answer")?
    }

    /// `INFO section` as a map.
    pub(crate) async fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>> {
        let text = self.command(&["INFO", section]).await?.text()?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect())
    }
}

async fn read(reader: &mut BufReader<Box<dyn AsyncRead + Send + Unpin>>) -> Result<Reply> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    ensure!(line.len() > 2, "the engine has closed the connection");
    let text = String::from_utf8_lossy(&line[1..line.len() - 2]).into_owned();
    Ok(match line[0] {
        b'+' => Reply::Text(text),
        b'-' => Reply::Error(text),
        b':' => Reply::Number(text.parse()?),
        b'$' if text.starts_with('-') => Reply::Nothing,
        b'$' => {
            let mut bytes = vec![0; text.parse::<usize>()? + 2];
            reader.read_exact(&mut bytes).await?;
            bytes.truncate(bytes.len() - 2);
            Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        b'*' if text.starts_with('-') => Reply::Nothing,
        b'*' => {
            let mut list = Vec::new();
            for _ in 0..text.parse::<usize>()? {
                list.push(Box::pin(read(reader)).await?);
            }
            Reply::List(list)
        }
        other => bail!("not an answer: {:?}", char::from(other)),
    })
}

/// The hash slot of a key.
pub(crate) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let bytes = tag.filter(|tag| !tag.is_empty()).unwrap_or(key).bytes();
    let crc = bytes.fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

#[test]
fn the_slot_of_a_key_is_what_the_engine_says() {
    assert_eq!(slot("hoge"), 1525);
    assert_eq!(slot("foo"), 12_182);
    assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
}
