//! The operator's way out, as the loop sees it: each request becomes a message, and the loop waits until its answer comes.

use crate::mutant::{self, Mutant};
use kagami_core::plan::Confirm;
use kagami_core::status::Happening;
use kagami_cycle::{ApiError, Counted, Failed, Order, Target, World};
use kagami_protocol::Done;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Reads.
    Get(Target),
    /// Applies.
    Apply(Target, Value),
    /// Creates.
    Create(Target, Value),
    /// Replaces.
    Replace(Target, Value),
    /// Merges.
    Merge(Target, Value),
    /// Applies the status.
    Status(Value),
    /// Deletes.
    Delete(Target, Option<String>),
    /// An event.
    Event(Happening),
    /// An order.
    Order(Box<Order>),
    /// Waits.
    Pause(u64),
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Answered {
    /// By the apiserver.
    Api(Result<Option<Value>, ApiError>),
    /// By an agent.
    Order(Result<Done, Failed>),
    /// Time has passed.
    Nothing,
}

/// What lies between the loop and the world.
#[derive(Debug, Default)]
pub struct Desk {
    next: u64,
    /// Requests that are to be sent.
    pub asked: Vec<(u64, Ask)>,
    /// Answers that came.
    pub answers: BTreeMap<u64, Answered>,
    /// Whom to confirm.
    pub confirms: Vec<(Vec<String>, Vec<Confirm>)>,
    /// Whom to leave.
    pub leaves: Vec<Vec<String>>,
    /// The operator's monotonic clock.
    pub now_ms: u64,
    /// Its wall clock.
    pub wall_ms: i64,
    /// Plans that the check refused.
    pub refused_plans: u64,
}

/// One process's port.
#[derive(Clone, Debug, Default)]
pub struct Port {
    desk: Arc<Mutex<Desk>>,
    /// A planted bug.
    pub mutant: Option<Mutant>,
}

impl Port {
    /// An empty one.
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant, ..Self::default() }
    }

    /// What lies on it.
    pub fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends something and waits for nothing.
    pub fn send(&self, ask: Ask) {
        let mut desk = self.desk();
        desk.next += 1;
        let number = desk.next;
        desk.asked.push((number, ask));
    }

    fn ask(&self, ask: Ask) -> impl Future<Output = Answered> + Send + use<> {
        let port = self.clone();
        let mut ask = Some(ask);
        let mut number = 0;
        poll_fn(move |_| {
            let mut desk = port.desk();
            if let Some(ask) = ask.take() {
                desk.next += 1;
                number = desk.next;
                desk.asked.push((number, ask));
            }
            desk.answers.remove(&number).map_or(Poll::Pending, Poll::Ready)
        })
    }

    async fn api(&self, ask: Ask) -> Result<Option<Value>, ApiError> {
        match self.ask(ask).await {
            Answered::Api(answer) => answer,
            _ => Ok(None),
        }
    }

    async fn object(&self, ask: Ask) -> Result<Value, ApiError> {
        Ok(self.api(ask).await?.unwrap_or_default())
    }
}

impl World for Port {
    async fn get(&self, target: &Target) -> Result<Option<Value>, ApiError> {
        self.api(Ask::Get(target.clone())).await
    }
    async fn apply(&self, target: &Target, object: &Value) -> Result<Value, ApiError> {
        self.object(Ask::Apply(target.clone(), object.clone())).await
    }
    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ApiError> {
        self.object(Ask::Create(target.clone(), object.clone())).await
    }
    async fn replace(&self, target: &Target, object: &Value) -> Result<Value, ApiError> {
        if self.mutant == Some(Mutant::ActsBeforeIntent) {
            // The intent is taken for written although it is only on its way.
            self.send(Ask::Replace(target.clone(), object.clone()));
            return Ok(object.clone());
        }
        self.object(Ask::Replace(target.clone(), object.clone())).await
    }
    async fn merge(&self, target: &Target, patch: &Value) -> Result<Value, ApiError> {
        self.object(Ask::Merge(target.clone(), patch.clone())).await
    }
    async fn apply_status(&self, status: &Value) -> Result<Value, ApiError> {
        self.object(Ask::Status(status.clone())).await
    }
    async fn delete(&self, target: &Target, uid: Option<&str>) -> Result<(), ApiError> {
        self.api(Ask::Delete(target.clone(), uid.map(str::to_owned))).await.map(|_| ())
    }
    async fn event(&self, happening: &Happening) {
        self.ask(Ask::Event(happening.clone())).await;
    }
    async fn order(&self, mut order: Order) -> Result<Done, Failed> {
        mutant::order(self.mutant, &mut order);
        match self.ask(Ask::Order(Box::new(order))).await {
            Answered::Order(answer) => answer,
            _ => Err(Failed::Unanswered("no answer".into())),
        }
    }
    fn confirm(&self, nodes: &[String], confirms: &[Confirm]) {
        self.desk().confirms.push((nodes.to_vec(), confirms.to_vec()));
    }
    fn leave(&self, nodes: &[String]) {
        self.desk().leaves.push(nodes.to_vec());
    }
    async fn pause(&self, ms: u64) {
        self.ask(Ask::Pause(ms)).await;
    }
    fn now_ms(&self) -> u64 {
        self.desk().now_ms
    }
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.desk().wall_ms).unwrap_or_default()
    }
    fn operator_secret(&self) -> Result<BTreeMap<String, String>, String> {
        Ok(["ca.crt", "ca.key", "tls.crt", "tls.key"].map(|name| (name.to_owned(), "made".to_owned())).into())
    }
    fn agent_secret(&self, _operator: &Value) -> Result<BTreeMap<String, String>, String> {
        let names = ["ca.crt", "tls.crt", "tls.key", "agent-password", "replication-password"];
        Ok(names.map(|name| (name.to_owned(), "made".to_owned())).into())
    }
    fn count(&self, counted: Counted) {
        if matches!(counted, Counted::RefusedPlan) {
            self.desk().refused_plans += 1;
        }
    }
}
