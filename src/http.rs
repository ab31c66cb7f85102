//! `/healthz`, `/readyz` and `/metrics`.

use crate::metrics::Metrics;
use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;

/// Serves until the process ends. A standby is ready too: it is what a rollout waits for.
pub(crate) async fn serve(listen: SocketAddr, metrics: Arc<Metrics>) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route(
            "/metrics",
            get(move || async move {
                ([("content-type", "application/openmetrics-text; version=1.0.0")], metrics.render())
            }),
        );
    let listener = tokio::net::TcpListener::bind(listen).await?;
    axum::serve(listener, app).await?;
    Ok(())
}
