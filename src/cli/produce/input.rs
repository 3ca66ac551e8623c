//! Reading files and stdin, block by block, on a thread of its own.
//!
//! Owns the order of the inputs and the bounded channel between the thread and the command; never
//! looks into a block. A thread, not a task: a read of a terminal or pipe may block for ever, and
//! must keep neither connections nor the end of the program waiting.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cli::exit::{Exit, Fault};

/// Bytes that are read at a time.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks that wait to be cut into lines.
const BLOCKS_WAITING: usize = 4;

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Stdin,
    File { path: PathBuf, bytes: Option<u64> },
}

/// What the thread sends.
pub(super) enum Piece {
    /// A new input begins.
    Begin(String),
    /// The next bytes of it.
    Block(Bytes),
    /// Its end.
    End,
    /// It cannot be read on; nothing follows.
    Failed(Fault),
}

/// The inputs that the arguments name, each looked at before anything is produced.
pub(super) fn of(files: &[PathBuf]) -> Result<Vec<Input>, Fault> {
    if files.is_empty() {
        return Ok(vec![Input::Stdin]);
    }
    files.iter().map(|path| Input::of(path)).collect()
}

/// Bytes of all inputs, if all are plain files.
pub(super) fn total_bytes(inputs: &[Input]) -> Option<u64> {
    inputs
        .iter()
        .map(|input| match input {
            Input::Stdin => None,
            Input::File { bytes, .. } => *bytes,
        })
        .sum()
}

/// Reads all inputs in order; the thread ends with the last one, or when the receiver is dropped.
pub(super) fn read(inputs: Vec<Input>) -> mpsc::Receiver<Piece> {
    let (pieces, received) = mpsc::channel(BLOCKS_WAITING);
    std::thread::spawn(move || {
        for input in inputs {
            if send(&input, &pieces).is_none() {
                break;
            }
        }
    });
    received
}

impl Input {
    fn of(path: &Path) -> Result<Self, Fault> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdin);
        }
        let found = path.metadata().map_err(|error| unreadable(path, &error))?;
        if found.is_dir() {
            return Err(Fault::new(
                Exit::Usage,
                format_args!("{} is a directory", path.display()),
            )
            .hint(format_args!("name its files: {}/*", path.display())));
        }
        Ok(Self::File {
            path: path.to_owned(),
            bytes: found.is_file().then_some(found.len()),
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File { path, .. } => Box::new(File::open(path)?),
        })
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Failed,
    };
    Fault::new(
        exit,
        format_args!("cannot read {}: {error}", path.display()),
    )
}

/// Sends one input; `None` when nothing more is to be sent.
fn send(input: &Input, pieces: &mpsc::Sender<Piece>) -> Option<()> {
    pieces.blocking_send(Piece::Begin(input.name())).ok()?;
    let failed = |error: io::Error| {
        // Without a receiver there is nobody to tell.
        let _ = pieces.blocking_send(Piece::Failed(unreadable(Path::new(&input.name()), &error)));
    };
    let mut file = input.open().map_err(failed).ok()?;
    loop {
        let mut block = vec![0; BLOCK_BYTES];
        let read = match file.read(&mut block) {
            Ok(0) => return pieces.blocking_send(Piece::End).ok(),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                failed(error);
                return None;
            }
        };
        block.truncate(read);
        pieces.blocking_send(Piece::Block(block.into())).ok()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_in_order_and_a_hyphen_is_stdin() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        std::fs::write(&one, b"a\r\nb").unwrap();
        std::fs::write(&two, vec![b'x'; BLOCK_BYTES + 1]).unwrap();
        let inputs = of(&[one.clone(), two]).unwrap();
        assert_eq!(total_bytes(&inputs), Some(4 + BLOCK_BYTES as u64 + 1));
        let mut pieces = read(inputs);
        let mut shown = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            shown.push(match piece {
                Piece::Begin(name) => name.rsplit('/').next().unwrap().to_owned(),
                Piece::Block(block) => block.len().to_string(),
                Piece::End => "end".to_owned(),
                Piece::Failed(fault) => fault.message,
            });
        }
        let whole = BLOCK_BYTES.to_string();
        assert_eq!(shown, ["one", "4", "end", "two", &whole, "1", "end"]);

        assert_eq!(of(&[]).unwrap(), [Input::Stdin]);
        assert_eq!(total_bytes(&of(&[one, "-".into()]).unwrap()), None);
    }

    #[test]
    fn a_missing_file_or_a_directory_is_refused_before_anything_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert_eq!(of(&[missing]).unwrap_err().exit, Exit::NotFound);
        assert_eq!(
            of(&[directory.path().to_owned()]).unwrap_err().exit,
            Exit::Usage
        );
    }
}
