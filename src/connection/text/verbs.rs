//! The verbs of text mode, as HELP lists them.
//!
//! Owns their words and what is said of them. What a line means is decided in
//! [`command`](super::command).

/// Each verb with its words and what it does.
pub(super) const VERBS: &[(&str, &str, &str)] = &[
    (
        "ACK",
        "topic consumer lease offset|from-to|-to",
        "say that leased records were processed",
    ),
    (
        "ALTER",
        "topic [key=value]... | CONSUMER topic consumer [key=value]... | PRINCIPAL name [quota=value]...",
        "change settings; key= goes back to the default",
    ),
    (
        "AUTH",
        "TOKEN token | CERTIFICATE | name password",
        "log in",
    ),
    (
        "CONSUME",
        "topic consumer [n=1] [wait=5s] [lease=30s]",
        "take the next records, or lease them (also DEQUEUE)",
    ),
    (
        "CREATE",
        "topic [key=value]... | PRINCIPAL name [quota=value]...",
        "create a topic, or a principal",
    ),
    (
        "DELETE",
        "topic CONFIRM topic | PRINCIPAL name CONFIRM name",
        "delete a topic and all its records, or a principal",
    ),
    (
        "DEQUEUE",
        "topic consumer [n=1] [wait=5s] [lease=30s]",
        "take the next records, or lease them (also CONSUME)",
    ),
    (
        "DESCRIBE",
        "topic [consumer]",
        "describe a topic and its consumers, or a consumer and its leases",
    ),
    (
        "ENQUEUE",
        "topic rest-of-the-line-is-the-value",
        "append a record (also PRODUCE)",
    ),
    (
        "EXTEND",
        "topic consumer lease 30s",
        "keep leased records for so long from now on",
    ),
    (
        "FETCH",
        "topic W [n=10] [wait=5s] [severity=warn] [header.K=V] [since=T] [until=T] [grep=rest-of-line]",
        "read from W on, all or what a filter lets through; changes nothing",
    ),
    (
        "FORGET",
        "TOKEN principal label | PASSWORD principal",
        "let nobody log in with it any more",
    ),
    (
        "FRAMES",
        "ON|OFF",
        "show each command as the frame that it would be",
    ),
    (
        "GRANT",
        "principal rights glob",
        "let a principal produce, consume or admin topics",
    ),
    ("HELP", "[verb]", "list the commands, or explain one"),
    ("INFO", "", "say who the broker is"),
    ("LIST", "[glob]", "list topics"),
    ("METADATA", "topic...", "say where topics are served"),
    (
        "NACK",
        "topic consumer lease offset|from-to|-to [delay=5s]",
        "give leased records back",
    ),
    (
        "PASSWORD",
        "principal rest-of-the-line-is-the-password",
        "set a password",
    ),
    ("PAUSE", "topic consumer", "let a consumer give no records"),
    ("PING", "", "say whether all is well"),
    (
        "PRINCIPALS",
        "[glob]",
        "list principals and what they may do",
    ),
    (
        "PRODUCE",
        "topic rest-of-the-line-is-the-value",
        "append a record (also ENQUEUE)",
    ),
    (
        "PRODUCEALL",
        "topic,topic... rest-of-the-line-is-the-value",
        "append a record to several topics, or to none",
    ),
    (
        "PURGE",
        "topic W CONFIRM topic",
        "remove the records before W",
    ),
    ("QUIT", "", "end the session"),
    (
        "REGISTER",
        "PRODUCER topic | CONSUMER topic name [from=W] [key=value]...",
        "register",
    ),
    (
        "REQUEUE",
        "topic consumer dead-letter-topic offset|from-to",
        "deliver again what a consumer gave up",
    ),
    (
        "RESUME",
        "topic consumer",
        "let a consumer give records again",
    ),
    (
        "REVOKE",
        "principal rights glob",
        "take back what was granted on a glob",
    ),
    (
        "SCHEDULE",
        "topic 5m|time rest-of-the-line-is-the-value",
        "append a record when its time has come",
    ),
    ("SEEK", "topic consumer W", "move a consumer's cursor"),
    ("SIZE", "topic consumer", "say what is left for a consumer"),
    ("STATS", "[topic]", "show counters"),
    (
        "TOKEN",
        "principal label",
        "make a token, which is shown once",
    ),
    (
        "UNREGISTER",
        "PRODUCER topic | CONSUMER topic name | WORKER topic name id",
        "end a registration",
    ),
];
