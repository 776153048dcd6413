//! The meter of a process: what topics used since the last report, and the reports to their ledgers. Must never lose a count while
//! the process lives, nor have one counted twice: a report is sent, under its number, until it is certain that it was taken, and
//! only then the next one.
//!
//! What a process that dies had not reported is lost: what it counted since its last report, and what it could not report while the
//! metadata service was away. While nothing is used, nothing is reported, and no timer runs.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use lakefall_queue::clock::Ambient;
use lakefall_queue::ledger::{Answer, Command, Query, Refusal, proto};
use lakefall_queue::topic::Topic;
use lakefall_queue::usage::{Figure, Grain, Listener, REPORT_ITEMS, Tally, UsageCounts, UsageItem, UsageReport};
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
/// Shards that are reported to at once: one that is away keeps those behind it waiting no longer than it must.
const SHARDS_AT_ONCE: usize = 16;
/// Topics of a shard that are asked for at once.
const TOPICS_AT_ONCE: usize = 16;

/// What one topic used that was not reported.
#[derive(Debug)]
pub struct Account {
    namespace: NamespaceName,
    topic: TopicId,
    /// As the metrics have them: the namespace's and the topic's.
    labels: Labels,
    tally: Arc<Tally>,
}

type Labels = (String, String);

impl Account {
    /// Counts something.
    pub fn add(&self, figure: Figure, count: u64) {
        self.tally.add(figure, count);
    }

    /// Counts all of these.
    pub fn merge(&self, counts: &UsageCounts) {
        self.tally.merge(counts);
    }

    /// For work that counts by itself what it uses. Whoever waits with it for something to count wakes nobody.
    pub fn tally(&self) -> Arc<Tally> {
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

impl Listener for Stir {
    fn counted(&self) {
        self.stir();
    }
}

/// What is to be reported to one shard.
#[derive(Default)]
struct Waiting {
    /// Sent, and not known to be taken.
    sent: Option<UsageReport>,
    /// What comes after it.
    next: BTreeMap<TopicId, UsageItem>,
    /// Counted for topics of which only the number is known.
    unnamed: BTreeMap<TopicId, UsageCounts>,
}

impl Waiting {
    fn count(&mut self, namespace: &NamespaceName, topic: TopicId, counts: &UsageCounts) {
        let fresh = || UsageItem { namespace: namespace.clone(), topic, counts: UsageCounts::default() };
        self.next.entry(topic).or_insert_with(fresh).counts.merge(counts);
    }

    fn is_empty(&self) -> bool {
        self.sent.is_none() && self.next.is_empty() && self.unnamed.is_empty()
    }
}

#[derive(Default)]
struct Accounts {
    by_topic: BTreeMap<TopicId, Arc<Account>>,
    /// Counted since the last report for topics that have no account, and of which only the number is known.
    unnamed: BTreeMap<TopicId, UsageCounts>,
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
    /// The number of the last report, to whatever shard.
    last: AtomicU64,
    /// Held while reports are under way: to each shard, one after another.
    waiting: tokio::sync::Mutex<BTreeMap<ShardId, Waiting>>,
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
            last: AtomicU64::default(),
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
        let tally = Arc::new(Tally::heard_by(Arc::clone(&self.stir) as Arc<dyn Listener>));
        let account = Arc::new(Account { namespace: namespace.clone(), topic, labels, tally });
        accounts.by_topic.insert(topic, Arc::clone(&account));
        account
    }

    /// Counts for a topic of which only the number is known; its ledger is asked whose it is when it is reported. What a topic used
    /// that was deleted meanwhile is counted for nobody.
    pub fn add(&self, topic: TopicId, counts: &UsageCounts) {
        if counts.is_empty() {
            return;
        }
        let mut accounts = self.locked();
        match accounts.by_topic.get(&topic) {
            Some(account) => account.merge(counts),
            None => {
                accounts.unnamed.entry(topic).or_default().merge(counts);
                drop(accounts);
                self.stir.stir();
            }
        }
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

    /// Reports everything that was counted, to some shards at once. What cannot be reported now is reported the next time. May be
    /// dropped anywhere: what was taken waits with its shard until it is known to be counted there.
    pub async fn report(&self) {
        let mut waiting = self.waiting.lock().await;
        self.gather(&mut waiting);
        let mut reports = Vec::with_capacity(waiting.len());
        for (shard, of) in waiting.iter_mut() {
            reports.push(self.report_to(*shard, of));
        }
        let done: Vec<bool> = futures::stream::iter(reports).buffer_unordered(SHARDS_AT_ONCE).collect().await;
        waiting.retain(|_, of| !of.is_empty());
        if done.contains(&false) {
            self.stir.stir();
        }
    }

    /// Takes what was counted. Nothing is awaited: what is taken is kept with what waits.
    fn gather(&self, shards: &mut BTreeMap<ShardId, Waiting>) {
        self.stir.stirred.store(false, Ordering::Release);
        let mut taken = Vec::new();
        let mut accounts = self.locked();
        accounts.by_topic.retain(|_, account| {
            // Looked at before the counts are taken: then all that others had counted, before they dropped it, is among them. Looked
            // at afterwards, one who counted in between and dropped it would be missed. Nobody can get it meanwhile.
            let alone = Arc::get_mut(account).is_some_and(|account| Arc::get_mut(&mut account.tally).is_some());
            let counts = account.tally.take();
            if !counts.is_empty() {
                taken.push((Arc::clone(account), counts));
            }
            !alone
        });
        let unnamed = std::mem::take(&mut accounts.unnamed);
        drop(accounts);
        for (account, counts) in &taken {
            shards.entry(account.topic.shard()).or_default().count(&account.namespace, account.topic, counts);
        }
        for (topic, counts) in unnamed {
            shards.entry(topic.shard()).or_default().unnamed.entry(topic).or_default().merge(&counts);
        }
        // Without the lock: whoever counts must not wait for whoever collects metrics.
        taken.iter().for_each(|(account, counts)| show(&account.labels, counts));
    }

    /// Whether everything for a shard was reported.
    async fn report_to(&self, shard: ShardId, of: &mut Waiting) -> bool {
        let named = self.name(shard, of).await;
        loop {
            if of.sent.is_none() {
                let mut items = Vec::new();
                while items.len() < REPORT_ITEMS
                    && let Some((_, item)) = of.next.pop_first()
                {
                    items.push(item);
                }
                if items.is_empty() {
                    return named;
                }
                let sequence = self.last.fetch_add(1, Ordering::Relaxed) + 1;
                of.sent = Some(UsageReport { reporter: self.reporter, sequence, items });
            }
            let Some(report) = &of.sent else { return named };
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

    /// Asks a shard whose the topics are of which only the number is known. Whether it told of all of them.
    async fn name(&self, shard: ShardId, of: &mut Waiting) -> bool {
        let mut asked = Vec::with_capacity(of.unnamed.len());
        for topic in of.unnamed.keys().copied() {
            asked.push(async move { (topic, self.metadata.query(shard, Query::TopicById(topic)).await) });
        }
        let mut told = futures::stream::iter(asked).buffer_unordered(TOPICS_AT_ONCE);
        let mut all = true;
        while let Some((topic, answer)) = told.next().await {
            let found = match answer {
                Ok(Answer::Topic(found)) => Some(found),
                Err(error) if error == Refusal::TopicGone.into_error() => None,
                Ok(_) | Err(_) => {
                    all = false;
                    continue;
                }
            };
            let counts = of.unnamed.remove(&topic).unwrap_or_default();
            if let Some(found) = found {
                of.count(&found.namespace, topic, &counts);
                let labels = self.locked().labels(&found.namespace, topic, &found.name);
                show(&labels, &counts);
            }
        }
        all
    }

    fn locked(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to the metrics.
fn show((tenant, topic): &Labels, counts: &UsageCounts) {
    for (figure, count) in counts.counted() {
        metrics::counter!(names::usage(figure), "tenant" => tenant.clone(), "topic" => topic.clone()).increment(count);
    }
}

impl Accounts {
    fn labels(&mut self, namespace: &NamespaceName, topic: TopicId, name: &TopicName) -> Labels {
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
            let fate = *self.fate.lock().unwrap();
            if fate == Fate::Away {
                return Err(Error::unavailable("nobody is there"));
            }
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
        meter.add(topics[0].id, &counts);
        meter.add(TopicId::new(ShardId(0), 77), &counts);
        meter.close().await;
        assert_eq!((shard.produced(), shard.asked()), (9, 1));
        assert!(meter.waiting.lock().await.is_empty());
    }

    #[tokio::test]
    async fn what_is_counted_by_number_alone_is_kept_until_its_ledger_can_be_asked() {
        let (shard, topics) = Shard::with_topics(1);
        let meter = meter(&shard);
        let counts = usage::UsageCounts::from_list(&[9]);
        shard.be(Fate::Away);
        for _ in 0..3 {
            meter.add(topics[0].id, &counts);
            meter.report().await;
        }
        assert!(meter.stir.stirred.load(Ordering::Relaxed), "it is tried again");
        shard.be(Fate::Done);
        meter.report().await;
        assert_eq!(shard.produced(), 27);
    }

    #[tokio::test(start_paused = true)]
    async fn who_only_holds_a_tally_wakes_nobody_and_what_it_counts_later_is_reported() {
        let (shard, topics) = Shard::with_topics(1);
        let meter = meter(&shard);
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&meter).run(stop.clone()));
        let tally = meter.of(&topics[0]).tally();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert!(!meter.stir.stirred.load(Ordering::Relaxed));
        // Its account is as it was, although there was a report in between.
        meter.report().await;
        tally.add(Figure::ProducedRecords, 5);
        drop(tally);
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(shard.produced(), 5);
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_counted_while_reports_are_made_is_never_lost() {
        let (shard, topics) = Shard::with_topics(1);
        let meter = meter(&shard);
        let counting = std::thread::spawn({
            let meter = Arc::clone(&meter);
            // The account is dropped each time, so that it may be found alone at any moment.
            move || (0..50_000).for_each(|_| meter.of(&topics[0]).add(Figure::ProducedRecords, 1))
        });
        while !counting.is_finished() {
            meter.report().await;
        }
        counting.join().unwrap();
        meter.report().await;
        assert_eq!(shard.produced(), 50_000);
    }

    /// Two shards, of which the first never answers.
    #[derive(Default)]
    struct Half {
        asked: Mutex<Vec<(ShardId, u64)>>,
    }

    #[async_trait]
    impl Metadata for Half {
        fn shards(&self) -> u32 {
            2
        }

        async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply> {
            if let Command::ReportUsage(report) = command {
                self.asked.lock().unwrap().push((shard, report.items[0].counts.get(Figure::ProducedRecords)));
            }
            if shard == ShardId(0) { std::future::pending().await } else { Ok(Reply::Done) }
        }

        async fn query(&self, _: ShardId, _: Query) -> Result<Answer> {
            std::future::pending().await
        }

        fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
            broadcast::channel(1).1
        }

        async fn identity(&self) -> Result<Identity> {
            Err(Error::unavailable("it has none"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_does_not_answer_keeps_no_other_waiting_and_what_was_cut_off_is_sent_as_it_was() {
        let half = Arc::new(Half::default());
        let ambient = Ambient { clock: Arc::new(Fixed), entropy: Arc::new(Fixed) };
        let meter = Meter::new(Arc::clone(&half) as _, &ambient, Duration::from_secs(60));
        let name = TopicName::new("t").unwrap();
        let account = |shard| meter.account(&NamespaceName::default_name(), TopicId::new(ShardId(shard), 1), &name);
        for count in [3, 4] {
            account(0).add(Figure::ProducedRecords, count);
            account(1).add(Figure::ProducedRecords, count);
            meter.close().await;
        }
        let (first, second) = (ShardId(0), ShardId(1));
        let mut asked = half.asked.lock().unwrap().clone();
        asked.sort_unstable();
        assert_eq!(asked, [(first, 3), (first, 3), (second, 3), (second, 4)]);
        let waiting = meter.waiting.lock().await;
        let left = |of: &Waiting| of.next.values().map(|item| item.counts.get(Figure::ProducedRecords)).sum::<u64>();
        assert_eq!(waiting.iter().map(|(shard, of)| (*shard, left(of))).collect::<Vec<_>>(), [(first, 4), (second, 0)]);
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
