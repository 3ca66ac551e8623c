//! The verbs of text mode, as HELP lists them.
//!
//! Owns their words and what is said of them. What a line means is decided in
//! [`command`](super::command).

/// Each verb with its words and what it does.
pub(super) const VERBS: &[(&str, &str, &str)] = &[
    (
        "ALTER",
        "topic key=value... key=...",
        "change settings of a topic; key= unsets one",
    ),
    (
        "CONSUME",
        "topic consumer [n=1] [wait=5s]",
        "take the next records (also DEQUEUE)",
    ),
    ("CREATE", "topic [key=value]...", "create a topic"),
    (
        "DELETE",
        "topic CONFIRM topic",
        "delete a topic and all its records",
    ),
    (
        "DEQUEUE",
        "topic consumer [n=1] [wait=5s]",
        "take the next records (also CONSUME)",
    ),
    ("DESCRIBE", "topic", "describe a topic and its consumers"),
    (
        "ENQUEUE",
        "topic rest-of-the-line-is-the-value",
        "append a record (also PRODUCE)",
    ),
    (
        "FETCH",
        "topic W [n=10] [wait=5s]",
        "read from W on; changes nothing",
    ),
    (
        "FRAMES",
        "ON|OFF",
        "show each command as the frame that it would be",
    ),
    ("HELP", "[verb]", "list the commands, or explain one"),
    ("INFO", "", "say who the broker is"),
    ("LIST", "[glob]", "list topics"),
    ("METADATA", "topic...", "say where topics are served"),
    ("PING", "", "say whether all is well"),
    (
        "PRODUCE",
        "topic rest-of-the-line-is-the-value",
        "append a record (also ENQUEUE)",
    ),
    (
        "PURGE",
        "topic W CONFIRM topic",
        "remove the records before W",
    ),
    ("QUIT", "", "end the session"),
    (
        "REGISTER",
        "PRODUCER topic | CONSUMER topic name [from=W]",
        "register",
    ),
    ("SEEK", "topic consumer W", "move a consumer's cursor"),
    ("SIZE", "topic consumer", "say what is left for a consumer"),
    ("STATS", "[topic]", "show counters"),
    (
        "UNREGISTER",
        "PRODUCER topic | CONSUMER topic name | WORKER topic name id",
        "end a registration",
    ),
];
