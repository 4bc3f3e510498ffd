//! Requests to one follower without waiting for the answers to those before, and what openraft may be told of.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Poll;

use futures::future::BoxFuture;
use futures::stream::{self, FuturesOrdered, Stream, StreamExt as _};

/// Requests under way to one follower.
const WIDTH: usize = 8;

/// A request that has been sent.
pub(super) struct Sent<P, A> {
    /// The last entry that the follower has, should it take this.
    pub last: P,
    /// Whether it carries no entries: it tells what is committed.
    pub bare: bool,
    /// The answer, and whether the follower has taken all of the request.
    pub answer: BoxFuture<'static, (A, bool)>,
}

/// Answers in the order of the requests, to be passed on as they come. Ends with the first one that is a failure
/// or takes a part only: what was sent behind it is void.
///
/// openraft takes the answer that entries up to `last` are there for an answer to every request up to `last`
/// that it has made, also to a bare one that was made later and may not even have arrived
/// (`InflightAppendQueue::drain_acked`); and with it for a proof that this node led when that was made. So an
/// answer to entries is not passed on while a bare request with the same `last` waits for its own, which then
/// stands for both. Else answers from before a leader was replaced confirm its reads afterwards.
pub(super) fn answers<P, A>(requests: impl Stream<Item = Sent<P, A>> + Send) -> impl Stream<Item = A> + Send
where
    P: PartialEq + Send,
    A: Send,
{
    let pipeline = Pipeline {
        requests: Box::pin(requests.fuse()),
        under_way: FuturesOrdered::new(),
        lasts: VecDeque::with_capacity(WIDTH),
    };
    stream::unfold(Some(pipeline), |pipeline| async move {
        let mut pipeline = pipeline?;
        let (answer, complete) = pipeline.next().await?;
        Some((answer, complete.then_some(pipeline)))
    })
}

struct Pipeline<S, P, A> {
    requests: Pin<Box<stream::Fuse<S>>>,
    under_way: FuturesOrdered<BoxFuture<'static, (A, bool)>>,
    /// `last` and `bare` of those.
    lasts: VecDeque<(P, bool)>,
}

impl<S, P, A> Pipeline<S, P, A>
where
    S: Stream<Item = Sent<P, A>>,
    P: PartialEq,
{
    async fn next(&mut self) -> Option<(A, bool)> {
        loop {
            tokio::select! {
                biased;
                Some((answer, complete)) = self.under_way.next() => {
                    if !(self.is_superseded() && complete) {
                        return Some((answer, complete));
                    }
                }
                Some(sent) = self.requests.next(), if self.under_way.len() < WIDTH => {
                    self.lasts.push_back((sent.last, sent.bare));
                    self.under_way.push_back(sent.answer);
                }
                else => return None,
            }
        }
    }

    /// Takes the oldest request out; whether a bare one with the same end waits behind it.
    fn is_superseded(&mut self) -> bool {
        let oldest = self.lasts.pop_front();
        matches!((oldest, self.lasts.front()), (Some((last, _)), Some((next, true))) if last == *next)
    }
}

/// Begins a call, and with it queues its request, before the next one is begun: entries that overtake others
/// are refused as a conflict, which openraft takes for a follower that has lost what it acknowledged.
/// Unconstrained, because a first poll would else queue nothing once the task has used up its budget.
pub(super) async fn in_order<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> BoxFuture<'static, T> {
    let mut call = Box::pin(tokio::task::unconstrained(call));
    match futures::poll!(call.as_mut()) {
        Poll::Ready(done) => Box::pin(std::future::ready(done)),
        Poll::Pending => call,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    type Answer = oneshot::Sender<(&'static str, bool)>;

    /// A request that is answered through the other end.
    fn request(last: u64, bare: bool) -> (Sent<u64, &'static str>, Answer) {
        let (answer, waits) = oneshot::channel();
        (Sent { last, bare, answer: waits.map(Result::unwrap).boxed() }, answer)
    }

    /// Passes on the answers to these requests; none comes after them, but none is known to be the last.
    fn answers_to<const N: usize>(
        requests: [(u64, bool); N],
    ) -> (impl Stream<Item = &'static str> + Unpin, [Answer; N]) {
        let (sent, ends): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|(last, bare)| request(last, bare)).unzip();
        let sent = stream::iter(sent).chain(stream::pending());
        (Box::pin(answers(sent)), ends.try_into().unwrap())
    }

    fn passed(answers: &mut (impl Stream<Item = &'static str> + Unpin)) -> Option<&'static str> {
        answers.next().now_or_never().flatten()
    }

    /// Broken by: a proof of leadership for a request that nobody has answered.
    #[tokio::test]
    async fn an_answer_waits_for_that_of_a_later_request_which_it_would_be_taken_for() {
        let (mut answers, [entries, bare]) = answers_to([(5, false), (5, true)]);
        assert_eq!(passed(&mut answers), None);
        entries.send(("entries", true)).unwrap();
        assert_eq!(passed(&mut answers), None);
        bare.send(("bare", true)).unwrap();
        assert_eq!(passed(&mut answers), Some("bare"));
    }

    #[tokio::test]
    async fn a_failure_of_the_later_request_stands_for_both() {
        let (mut answers, [entries, bare]) = answers_to([(5, false), (5, true)]);
        assert_eq!(passed(&mut answers), None);
        entries.send(("entries", true)).unwrap();
        bare.send(("failed", false)).unwrap();
        assert_eq!(passed(&mut answers), Some("failed"));
        assert_eq!(answers.next().await, None);
    }

    #[tokio::test]
    async fn answers_to_entries_do_not_wait_for_each_other() {
        let (mut answers, [first, _second, _bare]) = answers_to([(5, false), (6, false), (6, true)]);
        assert_eq!(passed(&mut answers), None);
        first.send(("first", true)).unwrap();
        assert_eq!(passed(&mut answers), Some("first"));
    }

    #[tokio::test]
    async fn answers_end_with_the_first_incomplete_one_without_waiting_for_the_next() {
        let (mut answers, [first, second, _third]) = answers_to([(5, false), (6, false), (7, false)]);
        first.send(("all", true)).unwrap();
        second.send(("a part", false)).unwrap();
        assert_eq!(answers.next().await, Some("all"));
        assert_eq!(answers.next().await, Some("a part"));
        assert_eq!(answers.next().await, None);
    }

    #[tokio::test]
    async fn only_so_many_requests_are_made_before_the_first_is_answered() {
        let made = std::cell::Cell::new(0);
        let requests = stream::iter(0..20).map(|number| {
            made.set(made.get() + 1);
            Sent { last: number, bare: false, answer: std::future::pending::<((), bool)>().boxed() }
        });
        let mut pipeline = Pipeline {
            requests: Box::pin(requests.fuse()),
            under_way: FuturesOrdered::new(),
            lasts: VecDeque::new(),
        };
        assert!(pipeline.next().now_or_never().is_none());
        assert_eq!(made.get(), WIDTH);
    }
}
