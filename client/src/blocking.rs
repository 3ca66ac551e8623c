//! The client for programs without a runtime: the same types and names, every call blocks.
//! (Facade over the async client, which runs on one background thread.)
