//! What a person sees while something takes long: a bar on stderr, on a terminal only.
//!
//! Owns the bar. What it counts is handed in; for records on their way to the broker that is the
//! number *acknowledged*, never the number read or sent.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often the bar is drawn while nothing moves.
const TICK: Duration = Duration::from_millis(120);

/// A bar, or a count where the total is not known; cleared when dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar that counts `what` up to `total`.
    pub(crate) fn new(total: Option<u64>, what: &str) -> Self {
        Self::on(ProgressDrawTarget::stderr(), total, what)
    }

    /// Likewise for a command whose data goes to stdout: hidden where both would meet on a
    /// terminal.
    pub(crate) fn beside_stdout(total: Option<u64>, what: &str) -> Self {
        let target = if stdout().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self::on(target, total, what)
    }

    fn on(target: ProgressDrawTarget, total: Option<u64>, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(total, target).with_message(what.to_owned());
        let template = match total {
            Some(_) => "{wide_bar} {human_pos}/{human_len} {msg} {rate}",
            None => "{spinner} {human_pos} {msg} {rate} {elapsed}",
        };
        // A template that does not parse would leave the default style, which serves as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(
                style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
                    // A rate that cannot be shown is not missed.
                    let _ = write!(out, "{:.0}/s", state.per_sec());
                }),
            );
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// How many there are now.
    pub(crate) fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// How many there will be, as far as that can be told.
    pub(crate) fn expect(&self, total: u64) {
        self.0.set_length(total);
    }

    /// What is counted, or waited for.
    pub(crate) fn name(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Does what writes to the terminal, with the bar out of the way.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.suspend(work)
    }

    /// Says a line on stderr, above the bar if there is one.
    pub(crate) fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
