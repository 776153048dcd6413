//! Queues on the wire: settings and bindings, receiving and settling, what is refused and how.

mod bad_input;
mod messages;
mod settings;
mod settling;
mod streams;

use serde_json::Value;

use super::Room;

impl Room {
    /// With queue `q`, whose own topic holds `messages` numbers.
    async fn with_messages(messages: usize) -> Self {
        let room = Self::open().await;
        let (status, queue) = room.post("/v1/queues", r#"{"name":"q","start":"earliest"}"#).await;
        assert_eq!(status, 201, "{queue}");
        for n in 0..messages {
            let (status, answer) = room.post("/v1/queues/q/messages", &format!("{{\"value\":{n}}}")).await;
            assert_eq!(status, 200, "{answer}");
        }
        room
    }

    async fn post(&self, uri: &str, body: &str) -> (u16, Value) {
        self.send("POST", uri, &[("content-type", "application/json")], body).await
    }

    async fn get(&self, uri: &str) -> (u16, Value) {
        self.send("GET", uri, &[], "").await
    }

    /// Receipts of as many messages of `q`.
    async fn receipts(&self, max: usize) -> Vec<String> {
        let (status, answer) = self.post("/v1/queues/q/receive", &format!("{{\"max\":{max}}}")).await;
        assert_eq!(status, 200, "{answer}");
        answer["messages"].as_array().unwrap().iter().map(|m| m["receipt"].as_str().unwrap().to_owned()).collect()
    }
}
