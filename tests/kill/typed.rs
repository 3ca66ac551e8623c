//! The producer that types: text mode over a socket, without the client and without an id.
//!
//! What it has typed and had no answer to when the connection ends is unknown, and it never types
//! it again.

use fastrand::Rng;
use logdrive::history::Origin;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::course::{Course, Noted, Stage};
use crate::plan::{self, TYPED};

/// Lines that are typed before the first answer is read, at most.
const LINES: u64 = 16;

/// Types until the trial comes to its end; gives what it noted, or a fault in words.
pub(crate) async fn run(course: Course) -> Result<Noted, String> {
    let mut typist = Typist {
        dice: plan::dice(course.seed, TYPED.0),
        stage: course.stage.clone(),
        course,
        next: 0,
        noted: Noted::default(),
    };
    while !typist.course.now().finishing {
        let up = |stage: &Stage| stage.survived == stage.kills;
        if typist.stage.wait_for(up).await.is_err() {
            break;
        }
        // Refused, it was killed again meanwhile, and the stage says so.
        if let Ok(socket) = TcpStream::connect(typist.course.address).await {
            typist.converse(socket).await?;
        }
    }
    Ok(typist.noted)
}

struct Typist {
    course: Course,
    stage: watch::Receiver<Stage>,
    dice: Rng,
    next: u64,
    noted: Noted,
}

impl Typist {
    /// Types as long as there are answers.
    async fn converse(&mut self, socket: TcpStream) -> Result<(), String> {
        let (read, mut write) = socket.into_split();
        let mut answers = BufReader::new(read).lines();
        while !self.course.now().finishing {
            let mut unanswered = self.next..self.next + self.dice.u64(1..=LINES);
            self.next = unanswered.end;
            let lines: Vec<_> = unanswered.clone().map(|it| self.line(it)).collect();
            // If it cannot be written, nothing will be answered, and that is noted below.
            let _ = write.write_all(lines.concat().as_bytes()).await;
            while !unanswered.is_empty()
                && let Ok(Some(answer)) = answers.next_line().await
            {
                let offset = offset(&answer).ok_or_else(|| format!("{}: {answer}", TYPED.0))?;
                let sequence = unanswered.next().unwrap();
                self.noted.recorder.acknowledged(origin(sequence), offset);
                self.course.acknowledged.send_modify(|count| *count += 1);
            }
            if !unanswered.is_empty() {
                self.noted.unknown += unanswered.end - unanswered.start;
                unanswered.for_each(|it| self.noted.recorder.unknown(origin(it)));
                return Ok(());
            }
        }
        Ok(())
    }

    /// The command for a record, which is noted as sent.
    fn line(&mut self, sequence: u64) -> String {
        let line = plan::line(&mut self.dice, TYPED.0, sequence);
        let fingerprint = plan::fingerprint_of(line.as_bytes());
        self.noted.recorder.sent(origin(sequence), fingerprint);
        format!("PRODUCE {} {line}\n", TYPED.1)
    }
}

fn origin(sequence: u64) -> Origin<'static> {
    Origin {
        topic: TYPED.1,
        producer: TYPED.0,
        sequence,
    }
}

/// The offset in `+ offset=12 synced`.
fn offset(answer: &str) -> Option<u64> {
    let rest = answer.strip_prefix("+ offset=")?;
    rest.strip_suffix(" synced")?.parse().ok()
}
