//! Named consumer positions.

use std::collections::BTreeMap;

use super::{CursorKey, Ledger, Refusal, Reply, RowKey};
use crate::error::{Error, Result};
use crate::id::{CursorName, NamespaceName, Offset, PartitionIndex, TopicId, TopicName};
use crate::time::Timestamp;
use crate::verbs::{Cursor, CursorMove, CursorPosition};

/// A cursor's positions in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CursorState {
    pub(crate) topic: TopicId,
    pub(crate) version: u64,
    pub(crate) updated_at: Timestamp,
    pub(crate) offsets: BTreeMap<PartitionIndex, Offset>,
}

impl Ledger {
    pub(super) fn put_cursor(&mut self, namespace: &NamespaceName, change: &CursorMove, now: Timestamp) -> Result<Reply> {
        self.require_namespace(namespace)?;
        let topic = self.topic_id(namespace, &change.topic)?;
        for (index, offset) in &change.offsets {
            let partition = self.partitions.get(&(topic, *index)).ok_or_else(|| Error::PartitionNotFound {
                topic: change.topic.clone(),
                partition: *index,
                partitions: self.topics.get(&topic).map_or(0, |t| t.config.partitions),
            })?;
            if *offset > partition.next {
                return Err(Error::invalid(
                    format!("/offsets/{index}"),
                    format!("offset {offset} is beyond the end of partition {index}, which is {}", partition.next),
                ));
            }
        }
        self.check_cursor(namespace, change).map_err(Refusal::into_error)?;
        self.move_cursor(namespace, change, now);
        let key = (namespace.clone(), change.cursor.clone(), change.topic.clone());
        self.describe_cursor(&key).map(Reply::Cursor).ok_or_else(|| Error::CursorNotFound(change.cursor.clone()))
    }

    /// Whether a move may happen now.
    pub(super) fn check_cursor(&self, namespace: &NamespaceName, change: &CursorMove) -> Result<(), Refusal> {
        let astray = || Refusal::CursorOffset { cursor: change.cursor.clone() };
        let topic = self.topic_id(namespace, &change.topic).map_err(|_| astray())?;
        for (index, offset) in &change.offsets {
            if self.partitions.get(&(topic, *index)).is_none_or(|partition| *offset > partition.next) {
                return Err(astray());
            }
        }
        let key = (namespace.clone(), change.cursor.clone(), change.topic.clone());
        let actual = self.cursors.get(&key).map_or(0, |cursor| cursor.version);
        match change.if_version {
            Some(expected) if expected != actual => Err(Refusal::CursorVersion { expected, actual }),
            _ => Ok(()),
        }
    }

    /// Moves a cursor whose move was checked.
    pub(super) fn move_cursor(&mut self, namespace: &NamespaceName, change: &CursorMove, now: Timestamp) {
        let Ok(topic) = self.topic_id(namespace, &change.topic) else { return };
        let key = (namespace.clone(), change.cursor.clone(), change.topic.clone());
        let fresh = || CursorState { topic, version: 0, updated_at: now, offsets: BTreeMap::new() };
        let cursor = self.cursors.entry(key.clone()).or_insert_with(fresh);
        cursor.version += 1;
        cursor.updated_at = now;
        cursor.offsets.extend(change.offsets.iter().copied());
        self.dirty.insert(RowKey::Cursor(key));
    }

    pub(super) fn delete_cursor(&mut self, namespace: &NamespaceName, cursor: &CursorName, topic: Option<&TopicName>) -> Result<Reply> {
        self.require_namespace(namespace)?;
        let keys: Vec<CursorKey> =
            self.cursor_keys(namespace, cursor).filter(|(.., t)| topic.is_none_or(|topic| t == topic)).cloned().collect();
        if keys.is_empty() {
            return Err(Error::CursorNotFound(cursor.clone()));
        }
        for key in keys {
            self.cursors.remove(&key);
            self.dirty.insert(RowKey::Cursor(key));
        }
        Ok(Reply::Done)
    }

    pub(super) fn forget_cursors_of(&mut self, namespace: &NamespaceName, topic: &TopicName) {
        let keys: Vec<CursorKey> = self.cursors.keys().filter(|(ns, _, t)| ns == namespace && t == topic).cloned().collect();
        for key in keys {
            self.cursors.remove(&key);
            self.dirty.insert(RowKey::Cursor(key));
        }
    }

    /// A cursor in every topic, in topic order.
    pub(super) fn cursor_keys<'a>(&'a self, namespace: &'a NamespaceName, cursor: &'a CursorName) -> impl Iterator<Item = &'a CursorKey> {
        self.cursors.keys().filter(move |(ns, name, _)| ns == namespace && name == cursor)
    }

    /// All cursors of a namespace.
    pub(super) fn cursors_in<'a>(&'a self, namespace: &'a NamespaceName) -> impl Iterator<Item = &'a CursorKey> {
        let from = (namespace.clone(), CursorName::first(), TopicName::first());
        self.cursors.range(from..).map(|(key, _)| key).take_while(move |(of, ..)| of == namespace)
    }

    pub(super) fn describe_cursor(&self, key: &CursorKey) -> Option<Cursor> {
        let state = self.cursors.get(key)?;
        let position = |(index, offset): (&PartitionIndex, &Offset)| {
            let partition = self.partitions.get(&(state.topic, *index))?;
            let from = (*offset).max(partition.log_start);
            Some(CursorPosition { partition: *index, offset: *offset, lag: partition.next.0.saturating_sub(from.0) })
        };
        Some(Cursor {
            name: key.1.clone(),
            topic: key.2.clone(),
            version: state.version,
            updated_at: state.updated_at,
            positions: state.offsets.iter().filter_map(position).collect(),
        })
    }

    pub(super) fn topic_id(&self, namespace: &NamespaceName, name: &TopicName) -> Result<TopicId> {
        self.names.get(&(namespace.clone(), name.clone())).copied().ok_or_else(|| Error::TopicNotFound(name.clone()))
    }
}
