//! The nemesis at length: an hour, or NEMESIS_MINUTES.

use crate::support::nemesis::{Length, nemesis};
use crate::support::{Sharing, seconds, tell};
use anyhow::{Context, Result};

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_p2_p4_an_hour_of_faults_at_random_loses_no_confirmed_write() -> Result<()> {
    let minutes: u64 = match std::env::var("NEMESIS_MINUTES") {
        Ok(text) => text.parse().context("NEMESIS_MINUTES is not a number")?,
        Err(_) => 60,
    };
    let limit = seconds(minutes * 60 + 900);
    tell("nemesis-long", Sharing::Alone, limit, async |story| {
        nemesis(story, seconds(minutes * 60), Length::Long).await
    })
    .await
}
