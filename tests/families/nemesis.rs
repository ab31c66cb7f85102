//! Faults drawn from a seed while clients write and read. `make nemesis SEED=… MINUTES=…` is the long one.

use crate::support::nemesis::{Length, nemesis};
use crate::support::{Sharing, seconds, tell};
use anyhow::Result;

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_p2_p4_faults_at_random_lose_no_confirmed_write_and_make_no_second_primary() -> Result<()> {
    tell("nemesis", Sharing::Alone, seconds(600), async |story| {
        nemesis(story, seconds(45), Length::Short).await
    })
    .await
}
