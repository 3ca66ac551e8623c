//! Peers that mean no good, beside those whose notes count: strangers who send anything, who break
//! off, who ask and never read, who connect and say nothing.
//!
//! They take no notes: all that is asked of the broker is to bear them.

use fastrand::Rng;
use logdrive_protocol::operations::{Ping, Stats};
use logdrive_protocol::preface::ClientPreface;
use logdrive_protocol::{frame, limits};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::course::Course;
use crate::plan;

/// How many of them there are at once.
pub(crate) const STRANGERS: usize = 8;
/// Acknowledgements of anybody that one stays for, at most, as a power of two.
const STAY: u32 = 9;
/// Bytes that one sends, at most, as a power of two.
const SENDS: u32 = 14;

/// Connects again and again until producers come to an end.
pub(crate) async fn stranger(mut course: Course, number: usize) {
    let mut dice = plan::dice(course.seed, &format!("stranger {number}"));
    while !course.now().finishing {
        if let Ok(mut socket) = TcpStream::connect(course.address).await {
            // The broker may close, or be killed: either is an end.
            let _ = socket.write_all(&words(&mut dice)).await;
            course
                .acknowledgements(plan::magnitude(&mut dice, STAY))
                .await;
        } else {
            course.acknowledgements(1).await;
        }
    }
}

fn words(dice: &mut Rng) -> Vec<u8> {
    let mut preface = bytes::BytesMut::new();
    ClientPreface::default().encode(&mut preface);
    let preface = preface.to_vec();
    let mut noise = vec![0; usize::try_from(plan::magnitude(dice, SENDS)).unwrap()];
    dice.fill(&mut noise);
    match dice.u32(0..8) {
        0 => Vec::new(),
        1 => preface[..dice.usize(..preface.len())].to_vec(),
        2 => noise,
        3 => [preface, noise].concat(),
        // A frame that promises more than will ever come.
        4 => {
            let length = dice.u32(..limits::MAX_FRAME_BYTES).to_be_bytes();
            [preface, length.to_vec(), noise].concat()
        }
        // Answers that nobody reads.
        5 => {
            let ask = |id| match id % 2 {
                0 => frame::encode(0x02, 0, id, &Ping {}).concat(),
                _ => frame::encode(0x06, 0, id, &Stats::default()).concat(),
            };
            let asked: Vec<_> = (1..200).flat_map(ask).collect();
            [preface, asked].concat()
        }
        6 => format!("FETCH {} earliest n=10000\n", plan::FOLLOWED)
            .repeat(40)
            .into_bytes(),
        _ => b"PRODUCE T-1 a line without an end".to_vec(),
    }
}
