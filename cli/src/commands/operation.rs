//! Operations of the server: what a command begins, and stays with until it ends.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::{Client, segment};
use crate::failure::Failure;

/// Between two looks at an operation.
const LOOK: Duration = Duration::from_millis(200);

/// Begins an operation and answers how it ended. What is begun must be such that beginning it twice does nothing twice.
pub(super) async fn carried_out(client: &Client, path: &str, body: &Value) -> Result<Value, Failure> {
    let mut operation = client.send_unkeyed(Method::POST, path, body).await?;
    while operation["status"] == "running" {
        tokio::time::sleep(LOOK).await;
        let id = operation["id"].as_str().ok_or_else(|| Failure::Defect("the operation has no id".to_owned()))?;
        operation = client.get(&format!("/v1/operations/{}", segment(id))).await?;
    }
    Ok(operation)
}
