//! "did you mean": names near the one that does not exist.
//!
//! Owns the asking for names after a failure; which one is near is decided where the broker decides
//! it too, in [`suggest`](crate::suggest). Never turns a failure into a success.

use logdrive_client::{Client, Error, ErrorCode};

use super::exit::Fault;
use crate::suggest::closest;

/// The error with the name that was probably meant, where a topic or consumer is missing.
pub(crate) async fn explain(
    client: &Client,
    error: Error,
    topic: &str,
    consumer: Option<&str>,
) -> Fault {
    let fault = Fault::of_change(&error);
    if error.hint().contains("did you mean") {
        return fault;
    }
    let (near, list) = match (error.code(), consumer) {
        (Some(ErrorCode::TopicNotFound), _) => {
            // Advice only: where the names cannot be had, the error stands as it is.
            let topics = client.list_topics("").await.unwrap_or_default();
            let near = closest(topic, topics.iter().map(|topic| topic.name.as_str()));
            (near.map(str::to_owned), "logdrive topic list".to_owned())
        }
        (Some(ErrorCode::ConsumerNotFound), Some(consumer)) => {
            let consumers = match client.describe_topic(topic).await {
                Ok(described) => described.consumers,
                Err(_) => Vec::new(),
            };
            let near = closest(
                consumer,
                consumers.iter().map(|consumer| consumer.name.as_str()),
            );
            (
                near.map(str::to_owned),
                format!("logdrive topic describe {topic}"),
            )
        }
        _ => return fault,
    };
    match near {
        Some(name) => fault.hint(format_args!("did you mean \"{name}\"? all names: {list}")),
        None => fault.hint(format_args!("all names: {list}")),
    }
}
