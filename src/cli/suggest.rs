//! "did you mean": names near the one that does not exist.
//!
//! Owns the choice of a near name and the asking for names after a failure; never turns a failure
//! into a success.

use logdrive_client::{Client, Error, ErrorCode};

use super::exit::Fault;

/// How alike two names must be to be offered: 1 is equal.
const LIKENESS: f64 = 0.6;

/// The name that was probably meant.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| {
        strsim::normalized_damerau_levenshtein(&wanted.to_lowercase(), &name.to_lowercase())
    };
    names
        .map(|name| (likeness(name), name))
        .filter(|(alike, _)| *alike >= LIKENESS)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

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
            let near = nearest(topic, topics.iter().map(|topic| topic.name.as_str()));
            (near.map(str::to_owned), "logdrive topic list".to_owned())
        }
        (Some(ErrorCode::ConsumerNotFound), Some(consumer)) => {
            let consumers = match client.describe_topic(topic).await {
                Ok(described) => described.consumers,
                Err(_) => Vec::new(),
            };
            let near = nearest(consumer, consumers.iter().map(|consumer| consumer.name.as_str()));
            (near.map(str::to_owned), format!("logdrive topic describe {topic}"))
        }
        _ => return fault,
    };
    match near {
        Some(name) => fault.hint(format_args!("did you mean \"{name}\"? all names: {list}")),
        None => fault.hint(format_args!("all names: {list}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, expected: Option<&str>) {
        let names = ["app", "app-web", "audit", "T-1"];
        assert_eq!(nearest(wanted, names.into_iter()), expected, "{wanted}");
    }

    #[test]
    fn a_slip_is_recognized_and_another_word_is_not() {
        check("ap", Some("app"));
        check("APP", Some("app"));
        check("app-wbe", Some("app-web"));
        check("aduit", Some("audit"));
        check("t-2", Some("T-1"));
        check("payments", None);
        check("", None);
    }
}
