//! The admin port: health, readiness, metrics and what the process is made of. Not public; it must never change anything
//! and never show a secret.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::live::LiveConfig;
use crate::tasks::{TaskState, Tasks};
use crate::telemetry::Telemetry;

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    /// The effective configuration.
    pub config: LiveConfig,
    /// Whether work is accepted.
    pub readiness: Readiness,
    /// The process's tasks.
    pub tasks: Tasks,
    /// Where metrics are rendered.
    pub telemetry: Telemetry,
}

impl Admin {
    /// Routes of the admin port.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/debug/config", get(debug_config))
            .route("/debug/tasks", get(debug_tasks))
            .with_state(self)
    }

    /// Serves the admin port until `stop`. Stop it last: orchestrators ask for readiness while the process drains.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

/// Whether the process takes work, and why not. Clones share the state.
#[derive(Clone)]
pub struct Readiness {
    reason: Arc<RwLock<Option<String>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new("starting")
    }
}

impl Readiness {
    /// Not ready, for this reason.
    pub fn new(reason: &str) -> Self {
        Self { reason: Arc::new(RwLock::new(Some(reason.to_owned()))) }
    }

    /// From now on the process takes work.
    pub fn set_ready(&self) {
        *self.reason.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on the process takes no work, for this reason.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        *self.reason.write().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    /// Why the process is not ready; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        self.reason.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.readiness.not_ready() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    // Content type of the Prometheus text exposition format, version 0.0.4.
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.telemetry.render_metrics()).into_response()
}

async fn debug_config(State(admin): State<Admin>) -> Response {
    match admin.config.current().render() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/toml")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn debug_tasks(State(admin): State<Admin>) -> Json<Vec<TaskState>> {
    Json(admin.tasks.list())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use crate::{Config, Secret};

    fn admin() -> Admin {
        let mut config = Config::default();
        config.store.secret_access_key = Some(Secret::new("hunter2".into()));
        Admin { config: LiveConfig::fixed(config), readiness: Readiness::default(), tasks: Tasks::new(), telemetry: Telemetry::detached() }
    }

    async fn fetch(admin: &Admin, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = admin.clone().router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_why_until_it_is_ready() {
        let admin = admin();
        assert_eq!(fetch(&admin, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting\n".into()));
        admin.readiness.set_ready();
        assert_eq!(fetch(&admin, "/readyz").await.0, StatusCode::OK);
        admin.readiness.set_not_ready("draining");
        assert_eq!(fetch(&admin, "/readyz").await.1, "not ready: draining\n");
        assert_eq!(fetch(&admin, "/healthz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn the_configuration_is_shown_without_its_secrets() {
        let (status, text) = fetch(&admin(), "/debug/config").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("secret_access_key") && !text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    async fn tasks_are_listed_by_name() {
        let admin = admin();
        admin.tasks.spawn("tail", std::future::pending());
        let (_, text) = fetch(&admin, "/debug/tasks").await;
        assert_eq!(text, r#"[{"name":"tail","running":1,"ended":0,"failed":0}]"#);
    }

    #[tokio::test]
    async fn metrics_tell_of_the_process_itself() {
        let (status, text) = fetch(&admin(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }
}
