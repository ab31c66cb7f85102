//! The engine, asked over its unix socket as the agent's own user.

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, Value,
};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;

/// Why there is no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// The engine's own words.
    #[error("{0}")]
    Said(String),
    #[error("no answer within {0} ms")]
    Silent(u128),
    #[error("not reached: {0}")]
    Unreached(String),
    #[error("an answer that was not understood: {0}")]
    Odd(String),
}

impl EngineError {
    /// Whether the engine answered at all.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Said(_) | Self::Odd(_))
    }

    /// Whether an outcome is an answer, be it an error.
    pub(crate) fn answered<T>(outcome: &Result<T, Self>) -> bool {
        outcome.as_ref().map_or_else(Self::is_answer, |_| true)
    }

    /// Whether the engine's words contain these, whatever their case.
    pub(crate) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Said(said) if said.to_ascii_lowercase().contains(&words.to_ascii_lowercase()))
    }

    fn from_redis(error: &RedisError) -> Self {
        match error.code() {
            Some(code) => {
                let detail = error.detail().unwrap_or_default();
                Self::Said(format!("{code} {detail}").trim_end().to_owned())
            }
            // It answers, and turns us away.
            None if error.kind() == redis::ErrorKind::AuthenticationFailed => Self::Said(error.to_string()),
            None => Self::Unreached(error.to_string()),
        }
    }
}

/// One connection that is opened again when it was lost.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    password: String,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Client {
    pub(crate) fn new(socket: PathBuf, password: String) -> Self {
        Self { socket, password, connection: Mutex::new(None) }
    }

    /// Sends one command and waits for its answer.
    pub(crate) async fn call<S: AsRef<str>>(
        &self,
        words: &[S],
        within: Duration,
    ) -> Result<Value, EngineError> {
        let mut words = words.iter().map(AsRef::as_ref);
        let mut command = redis::cmd(words.next().unwrap_or("PING"));
        for word in words {
            command.arg(word);
        }
        let answer = async {
            let mut connection = self.connected().await?;
            connection.send_packed_command(&command).await.map_err(|error| EngineError::from_redis(&error))
        };
        let answer = tokio::time::timeout(within, answer)
            .await
            .unwrap_or(Err(EngineError::Silent(within.as_millis())));
        match answer {
            Ok(Value::ServerError(error)) => {
                Err(EngineError::Said(format!("{} {}", error.code(), error.details().unwrap_or_default())))
            }
            Err(error) if !error.is_answer() => {
                *self.connection.lock().await = None;
                Err(error)
            }
            other => other,
        }
    }

    /// Sends one command whose answer is text.
    pub(crate) async fn text<S: AsRef<str>>(
        &self,
        words: &[S],
        within: Duration,
    ) -> Result<String, EngineError> {
        match self.call(words, within).await? {
            Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text),
            Value::Okay => Ok("OK".into()),
            other => Err(EngineError::Odd(format!("{other:?}"))),
        }
    }

    async fn connected(&self) -> Result<MultiplexedConnection, EngineError> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let opened = self.open().await.map_err(|error| EngineError::from_redis(&error))?;
        // Not evicted when the clients' buffers exceed their limit (7.0 and later; others refuse, which is fine).
        let mut first = opened.clone();
        let _ = first.send_packed_command(redis::cmd("CLIENT").arg("NO-EVICT").arg("on")).await;
        *connection = Some(opened.clone());
        Ok(opened)
    }

    async fn open(&self) -> Result<MultiplexedConnection, RedisError> {
        let login = RedisConnectionInfo::default()
            .set_username(kagami_protocol::AGENT_USER)
            .set_password(&self.password)
            .set_skip_set_lib_name();
        let info =
            ConnectionAddr::Unix(self.socket.clone()).into_connection_info()?.set_redis_settings(login);
        // Deadlines are ours, per command.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        redis::Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
    }
}
