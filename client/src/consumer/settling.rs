//! Requests on leases, asked until there is an answer. Each can be asked again without harm: an ack
//! of what is acked is a success, and a lease that is extended twice lasts no longer.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use logdrive_protocol::operations::{Ack, Extend, Nack, Operation, Settled};
use logdrive_protocol::{ErrorCode, Outcome};

use super::leases::Site;
use crate::Error;
use crate::backoff::Retry;
use crate::client::follow;
use crate::dialer::Dialer;
use crate::link::{Link, Parking};

/// Extensions of one topic's leases that are under way at a time.
const EXTENSIONS: usize = 32;

/// What became of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ack,
    /// Not to be delivered again before so many milliseconds have passed.
    Nack {
        delay_ms: u32,
    },
}

/// A lease, how long it was to last from now on, and whether it does.
pub(crate) type Extension = (u64, Duration, Result<(), Error>);

/// Whether the broker will never settle these records for this worker.
pub(crate) fn is_over(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::LeaseLost | ErrorCode::NotLeased | ErrorCode::WrongConsumer)
    )
}

/// Settles each of these; the results in the same order.
///
/// All go in one request. As that is refused whole where one element is over, its halves are then
/// asked for by themselves, down to the one.
pub(crate) async fn settle(
    dialer: &Dialer,
    site: Site,
    verdict: Verdict,
    parts: &[Settled],
) -> Vec<Result<(), Error>> {
    let mut results = vec![Ok(()); parts.len()];
    let mut spans = vec![(0..parts.len(), false)];
    while let Some((span, was_asked)) = spans.pop() {
        let settled = merged(&parts[span.clone()]);
        let (result, asked_again) = ask(dialer, site, verdict, settled).await;
        let again = was_asked || asked_again;
        let Err(error) = result else {
            continue;
        };
        if is_over(&error) && span.len() > 1 {
            let middle = span.start + span.len() / 2;
            spans.push((middle..span.end, again));
            spans.push((span.start..middle, again));
        } else if matches!(verdict, Verdict::Nack { .. })
            && again
            && matches!(
                error.code(),
                Some(ErrorCode::LeaseLost | ErrorCode::NotLeased)
            )
        {
            // The request whose answer was lost has given them back.
        } else {
            results[span].fill(Err(error));
        }
    }
    results
}

async fn ask(
    dialer: &Dialer,
    site: Site,
    verdict: Verdict,
    settled: Vec<Settled>,
) -> (Result<(), Error>, bool) {
    let Site {
        topic,
        consumer,
        worker,
    } = site;
    match verdict {
        Verdict::Ack => {
            let ack = Ack {
                topic,
                consumer,
                worker,
                settled,
            };
            let (result, again) = insist(dialer, &ack).await;
            (result.map(|_| ()), again)
        }
        Verdict::Nack { delay_ms } => {
            let nack = Nack {
                topic,
                consumer,
                worker,
                settled,
                delay_ms,
            };
            let (result, again) = insist(dialer, &nack).await;
            (result.map(|_| ()), again)
        }
    }
}

/// Neighbours of one lease in one element.
fn merged(parts: &[Settled]) -> Vec<Settled> {
    let mut merged: Vec<Settled> = Vec::new();
    for part in parts {
        match merged.last_mut() {
            Some(last) if last.lease == part.lease && last.to == part.from => last.to = part.to,
            _ => merged.push(part.clone()),
        }
    }
    merged
}

/// Extends each of these leases.
pub(crate) async fn extend(
    dialer: &Dialer,
    site: Site,
    leases: Vec<(u64, Duration)>,
) -> Vec<Extension> {
    let one = |(lease, lasts): (u64, Duration)| async move {
        let extend = Extend {
            topic: site.topic,
            consumer: site.consumer,
            worker: site.worker,
            lease,
            lease_ms: millis(lasts),
        };
        let (result, _) = insist(dialer, &extend).await;
        (lease, lasts, result.map(|_| ()))
    };
    let under_way = stream::iter(leases).map(one);
    under_way.buffer_unordered(EXTENSIONS).collect().await
}

/// Whole milliseconds; the broker says what it thinks of zero and of too many.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// A new connection, as long as it makes sense to try.
pub(crate) async fn link_again(dialer: &Dialer) -> Result<Link, Error> {
    let mut retry = Retry::new(dialer.options());
    loop {
        let error = match dialer.link().await {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        pause(&mut retry, error).await?;
    }
}

/// Asks until there is an answer, as long as it makes sense; whether an earlier attempt may have
/// taken effect.
async fn insist<O: Operation>(dialer: &Dialer, request: &O) -> (Result<O::Answer, Error>, bool) {
    let mut retry = Retry::new(dialer.options());
    let mut again = false;
    loop {
        let error = match dialer.link().await {
            Ok(link) => match link.ask(request, Parking::default()).await {
                Ok(answer) => return (Ok(answer), again),
                Err(error) => {
                    follow(dialer, &link, &error).await;
                    error
                }
            },
            Err(error) => error,
        };
        let uncertain = error.outcome() == Outcome::Unknown;
        if let Err(error) = pause(&mut retry, error).await {
            return (Err(error), again);
        }
        again |= uncertain;
    }
}

/// Waits before the next attempt.
///
/// # Errors
/// There is none: `error` is for good, or has come for too long.
async fn pause(retry: &mut Retry, error: Error) -> Result<(), Error> {
    let pause = if error.is_retryable() {
        retry.failed_now(&error)
    } else {
        None
    };
    let Some(pause) = pause else {
        return Err(error);
    };
    tracing::debug!(%error, ?pause, "asking again about leases");
    tokio::time::sleep(pause).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_lease_leave_as_one_element() {
        let of = |(lease, from, to)| Settled { lease, from, to };
        let parts = [(1, 5, 6), (1, 6, 7), (1, 9, 10), (2, 10, 11), (2, 11, 15)].map(of);
        assert_eq!(merged(&parts), [(1, 5, 7), (1, 9, 10), (2, 10, 15)].map(of));
    }
}
