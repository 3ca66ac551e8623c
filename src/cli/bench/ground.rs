//! Where a run takes place: one fresh directory, the brokers in it, and how to be given up.
//!
//! Owns the directory, which is removed with the [`Ground`], and names the topics of the run, which
//! are deleted where the broker is somebody else's. What is measured is the business of the others.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use logdrive_client::{Client, Options};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::args::GroundArgs;
use super::machine;
use crate::cli::broker::{Broker, Place};

/// The place of a run.
pub(crate) struct Ground {
    directory: TempDir,
    /// A broker that was running before.
    address: Option<String>,
    serve_args: Vec<OsString>,
    /// What the names of this run's topics begin with.
    prefix: String,
}

/// A broker that is measured: one of our own in a child process, or one that was running before.
pub(crate) struct Target {
    own: Option<Own>,
    /// Where it listens.
    pub(crate) address: String,
    prefix: String,
}

struct Own {
    place: Place,
    /// `None` while it is stopped.
    broker: Option<Broker>,
    // Dropped after the broker.
    directory: TempDir,
}

impl Ground {
    /// Makes the directory.
    pub(super) fn new(arguments: GroundArgs) -> anyhow::Result<Self> {
        let data = &arguments.data;
        let directory = tempfile::Builder::new()
            .prefix("logdrive-bench-")
            .tempdir_in(data)
            .with_context(|| format!("cannot make a directory in {}", data.display()))?;
        Ok(Self {
            directory,
            address: arguments.address,
            serve_args: arguments.serve_args,
            prefix: format!("bench-{:08x}-", fastrand::u32(..)),
        })
    }

    /// The directory: whatever is in it is removed at the end of the run.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What brokers of ours are started with besides.
    pub(super) fn serve_args(&self) -> &[OsString] {
        &self.serve_args
    }

    /// Whether brokers are ours to stop and to look into.
    pub(super) fn is_own(&self) -> bool {
        self.address.is_none()
    }

    /// A broker that has stored nothing, or the one that was running before.
    pub(crate) async fn broker(&self) -> anyhow::Result<Target> {
        self.broker_with(&[]).await
    }

    /// Likewise, with arguments of `logdrive serve` before those of the user, which win.
    pub(crate) async fn broker_with(&self, arguments: &[&str]) -> anyhow::Result<Target> {
        let prefix = self.prefix.clone();
        if let Some(address) = &self.address {
            return Ok(Target {
                own: None,
                address: address.clone(),
                prefix,
            });
        }
        let directory = tempfile::Builder::new()
            .prefix("broker-")
            .tempdir_in(self.path())?;
        let arguments = arguments.iter().map(OsString::from);
        let arguments: Vec<OsString> = arguments.chain(self.serve_args.iter().cloned()).collect();
        let place = Place::new(directory.path(), &arguments)?;
        let broker = Some(place.start().await?);
        Ok(Target {
            address: place.address.to_string(),
            own: Some(Own {
                place,
                broker,
                directory,
            }),
            prefix,
        })
    }

    /// Deletes what a run has left in a broker that was running before.
    pub(super) async fn tidy(&self) -> anyhow::Result<()> {
        let Some(address) = &self.address else {
            return Ok(());
        };
        let client = connect(address).await?;
        for topic in client.list_topics(&format!("{}*", self.prefix)).await? {
            client.delete_topic(&topic.name).await?;
        }
        client.close().await;
        Ok(())
    }
}

impl Target {
    /// A connection of its own.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        connect(&self.address).await
    }

    /// The name of a topic of this run.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Its process, where it is ours and running.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.own.as_ref()?.broker.as_ref()?.id()
    }

    /// Waits until a broker of ours has done what it had put off, as far as its CPU time tells.
    pub(crate) async fn settle(&self) {
        if let Some(pid) = self.pid() {
            machine::settle(pid).await;
        }
    }

    /// Where its files are.
    pub(crate) fn data(&self) -> anyhow::Result<PathBuf> {
        match &self.own {
            Some(own) => Ok(own.place.data()),
            None => bail!("the files of a broker that was running before are not looked into"),
        }
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        match self.own.as_mut().and_then(|own| own.broker.take()) {
            Some(broker) => broker.kill().await,
            None => bail!("there is no broker of ours to kill"),
        }
    }

    /// Stops it as an operator would.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        match self.own.as_mut().and_then(|own| own.broker.take()) {
            Some(broker) => broker.stop().await,
            None => bail!("there is no broker of ours to stop"),
        }
    }

    /// Starts it again on the same files and the same port.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("the broker is not ours")?;
        own.broker = Some(own.place.start().await?);
        Ok(())
    }

    /// Drops its files from the page cache; it must have been stopped or killed.
    pub(crate) async fn forget_pages(&self) -> anyhow::Result<()> {
        let data = self.data()?;
        blocking(move |_| machine::drop_cached_below(&data)).await
    }

    /// Stops it, if it is ours, and removes its files.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        if self.pid().is_some() {
            self.stop().await?;
        }
        match self.own {
            Some(own) => Ok(own.directory.close()?),
            None => Ok(()),
        }
    }
}

async fn connect(address: &str) -> anyhow::Result<Client> {
    let options = Options {
        client_name: "logdrive-bench".to_owned(),
        ..Options::default()
    };
    Ok(Client::connect_with(address, options).await?)
}

/// Runs what blocks on a thread of its own. Dropping the future tells it to stop, which it must
/// look for between steps.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&CancellationToken) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let stop = CancellationToken::new();
    let _dropped = stop.clone().drop_guard();
    tokio::task::spawn_blocking(move || work(&stop))
        .await
        .context("a measurement panicked")?
}

/// Ends blocking work that nobody waits for any more.
pub(crate) fn go_on(stop: &CancellationToken) -> anyhow::Result<()> {
    anyhow::ensure!(!stop.is_cancelled(), "given up");
    Ok(())
}
