//! The meter of a process: what topics used since the last report, and the reports to their ledgers. Must never lose a count while
//! the process lives, nor have one counted twice: a report is sent, under its number, until it is certain that it was taken, and
//! only then the next one.
//!
//! What a process that dies had not reported is lost: what it counted since its last report, and what it could not report while the
//! metadata service was away. While nothing is used, nothing is reported, and no timer runs.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakefall_queue::clock::Ambient;
use lakefall_queue::ledger::{Answer, Command, Query, proto};
use lakefall_queue::topic::Topic;
use lakefall_queue::usage::{Figure, Grain, REPORT_ITEMS, Tally, UsageCounts, UsageItem, UsageReport};
use lakefall_queue::{NamespaceName, ShardId, TopicId, TopicName};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::metrics as names;
use crate::node::Metadata;

/// Topics that have labels of their own in the metrics of a process, the first ones that are used; the others share one for each
/// namespace.
const TOPICS_NAMED: usize = 100;
/// Namespaces that have; the others share one.
const NAMESPACES_NAMED: usize = 1_000;
/// The label of those that share one: no name begins like this.
const OTHERS: &str = "_other";
/// How long the last report may take when a process stops.
const LAST_REPORT: Duration = Duration::from_secs(2);

/// What one topic used that was not reported.
#[derive(Debug)]
pub struct Account {
    namespace: NamespaceName,
    topic: TopicId,
    /// As the metrics have them: the namespace's and the topic's.
    labels: (String, String),
    tally: Arc<Tally>,
    stir: Arc<Stir>,
}

impl Account {
    /// Counts something.
    pub fn add(&self, figure: Figure, count: u64) {
        if count > 0 {
            self.tally.add(figure, count);
            self.stir.stir();
        }
    }

    /// Counts all of these.
    pub fn merge(&self, counts: &UsageCounts) {
        self.tally.merge(counts);
        self.stir.stir();
    }

    /// For work that counts by itself what it uses.
    pub fn tally(&self) -> Arc<Tally> {
        self.stir.stir();
        Arc::clone(&self.tally)
    }
}

/// Whether anything was counted since the last report.
#[derive(Debug, Default)]
struct Stir {
    stirred: AtomicBool,
    wake: Notify,
}

impl Stir {
    fn stir(&self) {
        // Looked at first: that is all that most counts have to do.
        if !self.stirred.load(Ordering::Relaxed) && !self.stirred.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }
}

/// What is to be reported to one shard.
#[derive(Default)]
struct Waiting {
    /// Sent, and not known to be taken.
    sent: Option<UsageReport>,
    /// What comes after it.
    next: BTreeMap<TopicId, UsageItem>,
}

#[derive(Default)]
struct Accounts {
    by_topic: BTreeMap<TopicId, Arc<Account>>,
    /// Those with labels of their own.
    topics: BTreeSet<TopicId>,
    namespaces: BTreeSet<NamespaceName>,
}

/// Counts for all topics of a process. See the module.
pub struct Meter {
    metadata: Arc<dyn Metadata>,
    interval: Duration,
    reporter: u128,
    accounts: Mutex<Accounts>,
    /// Held while a report is under way: one after another.
    waiting: tokio::sync::Mutex<(u64, BTreeMap<ShardId, Waiting>)>,
    stir: Arc<Stir>,
}

impl Meter {
    /// A meter that reports so long after something was first counted.
    pub fn new(metadata: Arc<dyn Metadata>, ambient: &Ambient, interval: Duration) -> Arc<Self> {
        Arc::new(Self {
            metadata,
            interval,
            reporter: ambient.entropy.draw(),
            accounts: Mutex::default(),
            waiting: tokio::sync::Mutex::default(),
            stir: Arc::default(),
        })
    }

    /// A topic's account.
    pub fn of(&self, topic: &Topic) -> Arc<Account> {
        self.account(&topic.namespace, topic.id, &topic.name)
    }

    /// The account of a topic of this number and name.
    pub fn account(&self, namespace: &NamespaceName, topic: TopicId, name: &TopicName) -> Arc<Account> {
        let mut accounts = self.locked();
        if let Some(account) = accounts.by_topic.get(&topic) {
            return Arc::clone(account);
        }
        let labels = accounts.labels(namespace, topic, name);
        let (tally, stir) = (Arc::default(), Arc::clone(&self.stir));
        let account = Arc::new(Account { namespace: namespace.clone(), topic, labels, tally, stir });
        accounts.by_topic.insert(topic, Arc::clone(&account));
        account
    }

    /// Counts for a topic of which only the number is known; its ledger is asked whose it is. What a topic used that was deleted
    /// meanwhile is counted for nobody.
    pub async fn add(&self, topic: TopicId, counts: &UsageCounts) {
        if counts.is_empty() {
            return;
        }
        let known = self.locked().by_topic.get(&topic).cloned();
        let account = match known {
            Some(account) => account,
            None => match self.metadata.query(topic.shard(), Query::TopicById(topic)).await {
                Ok(Answer::Topic(found)) => self.of(&found),
                Ok(_) | Err(_) => return,
            },
        };
        account.merge(counts);
    }

    /// Reports until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), Infallible> {
        let reports = async {
            loop {
                self.stir.wake.notified().await;
                tokio::time::sleep(self.interval).await;
                self.report().await;
            }
        };
        // Cut off anywhere, it goes on with the next report: what is sent is kept until it is known to be taken.
        tokio::select! {
            () = reports => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    }

    /// Reports what is left, in the short time that a process has for it when it stops.
    pub async fn close(&self) {
        if tokio::time::timeout(LAST_REPORT, self.report()).await.is_err() {
            tracing::warn!("the last usage could not be reported in time: it is not counted");
        }
    }

    /// Reports everything that was counted. What cannot be reported now is reported the next time.
    pub async fn report(&self) {
        let mut waiting = self.waiting.lock().await;
        let (numbers, shards) = &mut *waiting;
        self.gather(shards);
        let mut failed = false;
        for (shard, of) in shards.iter_mut() {
            failed |= !self.report_to(*shard, of, numbers).await;
        }
        shards.retain(|_, of| of.sent.is_some() || !of.next.is_empty());
        if failed {
            self.stir.stir();
        }
    }

    /// Takes what was counted. Nothing is awaited: what is taken is kept with what waits.
    fn gather(&self, shards: &mut BTreeMap<ShardId, Waiting>) {
        self.stir.stirred.store(false, Ordering::Release);
        let mut accounts = self.locked();
        for account in accounts.by_topic.values() {
            let counts = account.tally.take();
            if counts.is_empty() {
                continue;
            }
            let (tenant, topic) = &account.labels;
            for (figure, count) in counts.counted() {
                metrics::counter!(names::usage(figure), "tenant" => tenant.clone(), "topic" => topic.clone()).increment(count);
            }
            let fresh = || UsageItem { namespace: account.namespace.clone(), topic: account.topic, counts: UsageCounts::default() };
            let of = shards.entry(account.topic.shard()).or_default();
            of.next.entry(account.topic).or_insert_with(fresh).counts.merge(&counts);
        }
        // Nobody can get one of these meanwhile, nor have one that is not counted here.
        accounts.by_topic.retain(|_, account| Arc::strong_count(account) > 1 || Arc::strong_count(&account.tally) > 1);
    }

    /// Whether everything for a shard was reported.
    async fn report_to(&self, shard: ShardId, of: &mut Waiting, numbers: &mut u64) -> bool {
        loop {
            if of.sent.is_none() {
                let mut items = Vec::new();
                while items.len() < REPORT_ITEMS
                    && let Some((_, item)) = of.next.pop_first()
                {
                    items.push(item);
                }
                if items.is_empty() {
                    return true;
                }
                *numbers += 1;
                of.sent = Some(UsageReport { reporter: self.reporter, sequence: *numbers, items });
            }
            let Some(report) = &of.sent else { return true };
            match self.metadata.execute(shard, Command::ReportUsage(Box::new(report.clone()))).await {
                Ok(_) => {
                    of.sent = None;
                    metrics::counter!(names::USAGE_REPORTS, "outcome" => "ok").increment(1);
                }
                Err(error) => {
                    tracing::debug!(shard = shard.0, %error, "usage could not be reported: it is reported with what comes next");
                    metrics::counter!(names::USAGE_REPORTS, "outcome" => "failed").increment(1);
                    return false;
                }
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    fn labels(&mut self, namespace: &NamespaceName, topic: TopicId, name: &TopicName) -> (String, String) {
        let tenant = self.namespaces.contains(namespace) || self.namespaces.len() < NAMESPACES_NAMED;
        let named = tenant && (self.topics.contains(&topic) || self.topics.len() < TOPICS_NAMED);
        if tenant {
            self.namespaces.insert(namespace.clone());
        }
        if named {
            self.topics.insert(topic);
        }
        let label = |named: bool, name: &dyn ToString| if named { name.to_string() } else { OTHERS.to_owned() };
        (label(tenant, namespace), label(named, name))
    }
}

/// As the rows have it.
pub(crate) fn grain_number(grain: Grain) -> i32 {
    i32::from(match grain {
        Grain::Hour => proto::UsageGrain::Hour,
        Grain::Day => proto::UsageGrain::Day,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use lakefall_queue::clock::{Clock, Entropy};
    use lakefall_queue::error::{Error, Result};
    use lakefall_queue::id::Epoch;
    use lakefall_queue::ledger::{Ledger, Reply, UsageQuery};
    use lakefall_queue::topic::TopicConfig;
    use lakefall_queue::verbs::Precondition;
    use lakefall_queue::{Timestamp, usage};
    use tokio::sync::broadcast;

    use super::*;
    use crate::node::News;
    use crate::store::Identity;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            NOW
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }

    impl Entropy for Fixed {
        fn draw(&self) -> u128 {
            7
        }
    }

    /// What becomes of the next commands.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Done,
        /// It is done, and nobody is told.
        AnswerLost,
        /// It is not done.
        Away,
    }

    struct Shard {
        ledger: Mutex<Ledger>,
        fate: Mutex<Fate>,
        asked: Mutex<usize>,
    }

    impl Shard {
        fn with_topics(count: usize) -> (Arc<Self>, Vec<Topic>) {
            let shard = Self { ledger: Mutex::new(Ledger::new(ShardId(0), 1)), fate: Mutex::new(Fate::Done), asked: Mutex::default() };
            let topics = (0..count).map(|n| {
                let put = Command::PutTopic {
                    namespace: NamespaceName::default_name(),
                    name: TopicName::new(&format!("t{n}")).unwrap(),
                    config: TopicConfig::default(),
                    condition: Precondition::Always,
                    idempotency: None,
                };
                match shard.apply(put) {
                    Ok(Reply::Topic(topic, _)) => topic,
                    other => panic!("{other:?}"),
                }
            });
            let topics = topics.collect();
            (Arc::new(shard), topics)
        }

        fn apply(&self, command: Command) -> Result<Reply> {
            let mut ledger = self.ledger.lock().unwrap();
            let applied = ledger.apply(&command, NOW);
            ledger.seal(Epoch(1), NOW, applied.changed.then_some(command).into_iter().collect());
            applied.reply
        }

        fn be(&self, fate: Fate) {
            *self.fate.lock().unwrap() = fate;
        }

        fn asked(&self) -> usize {
            *self.asked.lock().unwrap()
        }

        /// What the whole namespace produced.
        fn produced(&self) -> u64 {
            let namespace = NamespaceName::default_name();
            let query = UsageQuery { namespace, topic: None, grain: Grain::Hour, from: Timestamp::default(), to: NOW };
            match self.ledger.lock().unwrap().query(&Query::Usage(Box::new(query))).unwrap() {
                Answer::Usage(answer) => answer.buckets.iter().map(|(_, counts)| counts.get(Figure::ProducedRecords)).sum(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[async_trait]
    impl Metadata for Shard {
        fn shards(&self) -> u32 {
            1
        }

        async fn execute(&self, _: ShardId, command: Command) -> Result<Reply> {
            *self.asked.lock().unwrap() += 1;
            let fate = *self.fate.lock().unwrap();
            match fate {
                Fate::Done => self.apply(command),
                Fate::AnswerLost => self.apply(command).and(Err(Error::unknown("the answer was lost"))),
                Fate::Away => Err(Error::unavailable("nobody is there")),
            }
        }

        async fn query(&self, _: ShardId, query: Query) -> Result<Answer> {
            self.ledger.lock().unwrap().query(&query)
        }

        fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
            broadcast::channel(1).1
        }

        async fn identity(&self) -> Result<Identity> {
            Err(Error::unavailable("it has none"))
        }
    }

    fn meter(shard: &Arc<Shard>) -> Arc<Meter> {
        let ambient = Ambient { clock: Arc::new(Fixed), entropy: Arc::new(Fixed) };
        Meter::new(Arc::clone(shard) as _, &ambient, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_report_whose_answer_was_lost_is_sent_again_and_counted_once() {
        let (shard, topics) = Shard::with_topics(1);
        let meter = meter(&shard);
        meter.of(&topics[0]).add(Figure::ProducedRecords, 3);
        shard.be(Fate::AnswerLost);
        meter.report().await;
        meter.of(&topics[0]).add(Figure::ProducedRecords, 4);
        meter.report().await;
        assert_eq!((shard.produced(), shard.asked()), (3, 2), "only the first one was sent, twice");
        shard.be(Fate::Done);
        meter.report().await;
        assert_eq!(shard.produced(), 7);
        meter.report().await;
        assert_eq!(shard.asked(), 4, "nothing is left to be reported");
    }

    #[tokio::test]
    async fn what_cannot_be_reported_is_kept_and_reported_later() {
        let (shard, topics) = Shard::with_topics(1);
        let meter = meter(&shard);
        shard.be(Fate::Away);
        for _ in 0..5 {
            meter.of(&topics[0]).add(Figure::ProducedRecords, 1);
            meter.report().await;
        }
        assert_eq!(shard.produced(), 0);
        shard.be(Fate::Done);
        meter.report().await;
        assert_eq!(shard.produced(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_reported_an_interval_after_something_was_counted_and_never_while_nothing_is() {
        let (shard, topics) = Shard::with_topics(1);
        let meter = meter(&shard);
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&meter).run(stop.clone()));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(shard.asked(), 0);
        meter.of(&topics[0]).add(Figure::ProducedRecords, 1);
        tokio::time::sleep(Duration::from_secs(59)).await;
        meter.of(&topics[0]).add(Figure::ProducedRecords, 1);
        assert_eq!(shard.asked(), 0);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!((shard.asked(), shard.produced()), (1, 2));
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn more_topics_than_one_report_takes_are_all_reported_and_accounts_without_counts_go() {
        let many = REPORT_ITEMS + 5;
        let (shard, topics) = Shard::with_topics(many);
        let meter = meter(&shard);
        topics.iter().for_each(|topic| meter.of(topic).add(Figure::ProducedRecords, 1));
        meter.report().await;
        assert_eq!((shard.asked(), shard.produced()), (2, many as u64));
        assert_eq!(meter.locked().by_topic.len(), 0);
        assert_eq!(meter.locked().topics.len(), TOPICS_NAMED);
    }

    #[tokio::test]
    async fn what_is_counted_by_number_alone_is_its_topics_and_nobodys_once_that_is_deleted() {
        let (shard, topics) = Shard::with_topics(1);
        let meter = meter(&shard);
        let mut counts = usage::UsageCounts::default();
        counts.add(Figure::ProducedRecords, 9);
        meter.add(topics[0].id, &counts).await;
        meter.add(TopicId::new(ShardId(0), 77), &counts).await;
        meter.close().await;
        assert_eq!(shard.produced(), 9);
    }

    #[test]
    fn beyond_the_bound_topics_share_a_label_and_keep_their_namespaces() {
        let mut accounts = Accounts::default();
        let namespace = NamespaceName::default_name();
        let name = |n: usize| TopicName::new(&format!("t{n}")).unwrap();
        let labels: Vec<_> = (0..=TOPICS_NAMED).map(|n| accounts.labels(&namespace, TopicId(n as u64 + 1), &name(n))).collect();
        assert_eq!(labels[0], ("default".to_owned(), "t0".to_owned()));
        assert_eq!(labels[TOPICS_NAMED], ("default".to_owned(), OTHERS.to_owned()));
        assert_eq!(accounts.labels(&namespace, TopicId(1), &name(0)).1, "t0");
    }
}
