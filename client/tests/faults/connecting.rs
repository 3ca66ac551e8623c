//! What connecting refuses, and how it is told.

use crate::double::double;
use logdrive_client::{Client, ErrorKind};
use logdrive_protocol::operations::{Answer, Pinged};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn what_cannot_be_reached_is_named_with_its_cause_and_what_to_do() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let error = Client::connect(&closed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot reach {closed}: connection refused; is the broker running? start it with: \
             logdrive serve"
        )
    );
    let error = Client::connect("").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no address of a broker was given; give host:port, for example 127.0.0.1:7440"
    );
    let error = Client::connect("127.0.0.1").await.unwrap_err();
    assert!(
        error.to_string().contains("an address is host:port"),
        "{error}"
    );
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        let (correlation, _) = session.next().await.unwrap();
        session
            .answer(correlation, Answer::Ping(Pinged::default()))
            .await;
    })
    .await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let client = Client::connect(format!("{closed}, {address}"))
        .await
        .unwrap();
    client.ping().await.unwrap();
    script.await.unwrap();
}

#[tokio::test]
async fn what_is_no_broker_is_told_from_one_that_hangs_up() {
    let says = |bytes: &'static [u8]| async move {
        let (address, script) = double(move |mut listening| async move {
            let mut socket = listening.accept_raw().await;
            socket.write_all(bytes).await.unwrap();
            let mut heard = [0; 20];
            socket.read_exact(&mut heard).await.unwrap();
        })
        .await;
        let error = Client::connect(&address).await.unwrap_err();
        script.await.unwrap();
        (error.kind(), error.to_string().replace(&address, "ADDR"))
    };
    assert_eq!(
        says(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
        (
            ErrorKind::Protocol,
            "ADDR: the other side is not logdrive".to_owned()
        )
    );
    assert_eq!(
        says(b"").await,
        (
            ErrorKind::Unreachable,
            "cannot reach ADDR: the connection was closed in the handshake; is this a logdrive \
             broker, and is it still taking connections?"
                .to_owned()
        )
    );
}
