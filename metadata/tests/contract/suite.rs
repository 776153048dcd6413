//! Runs the contract's sentences on each store. A sentence that is not in the list is a warning: it would be dead code.

use std::sync::Arc;

use lakefall_metadata::MetadataStore;
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::sqlite::SqliteStore;
use tempfile::TempDir;

use crate::{checkpoints, extents, journal};

/// Makes stores of one kind.
pub(crate) trait Kind {
    /// An empty store, and what must live as long as it.
    async fn fresh() -> (Arc<dyn MetadataStore>, Option<TempDir>);
}

pub(crate) struct Memory;

impl Kind for Memory {
    async fn fresh() -> (Arc<dyn MetadataStore>, Option<TempDir>) {
        (Arc::new(MemoryStore::new()), None)
    }
}

pub(crate) struct Sqlite;

impl Kind for Sqlite {
    async fn fresh() -> (Arc<dyn MetadataStore>, Option<TempDir>) {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("metadata.sqlite")).await.unwrap();
        (Arc::new(store), Some(dir))
    }
}

macro_rules! contract {
    ($($module:ident::$sentence:ident)*) => {
        mod memory {
            use super::*;
            $(#[tokio::test]
            async fn $sentence() {
                $module::$sentence::<Memory>().await;
            })*
        }

        mod sqlite {
            use super::*;
            $(#[tokio::test]
            async fn $sentence() {
                $module::$sentence::<Sqlite>().await;
            })*
        }
    };
}

contract! {
    journal::a_store_keeps_the_number_of_shards_of_its_first_use
    journal::a_shard_that_nobody_used_is_empty
    journal::taking_a_shard_raises_its_epoch_and_fences_the_owner_before
    journal::a_shard_does_not_fence_another
    journal::entries_are_loaded_in_the_order_of_their_sequence
    journal::an_append_repeated_with_its_own_token_is_done_and_stored_once
    journal::an_append_at_a_place_that_another_token_took_is_fenced_and_leaves_the_first
    journal::an_append_of_an_old_epoch_is_fenced_and_leaves_nothing
    journal::an_append_that_stands_is_told_so_even_after_its_reign
    checkpoints::a_load_finds_the_checkpoints_rows_and_the_entries_after_it
    checkpoints::rows_of_every_kind_are_written_and_found_as_they_were
    checkpoints::rows_of_every_kind_are_deleted
    checkpoints::a_checkpoint_drops_the_entries_that_are_in_it_and_no_others
    checkpoints::a_checkpoint_of_an_old_epoch_is_fenced_and_changes_nothing
    checkpoints::a_shards_rows_are_not_anothers
    extents::a_scan_begins_with_the_extent_that_holds_the_offset
    extents::a_scan_ends_below_its_bound
    extents::a_scan_stops_at_its_byte_budget_after_at_least_one_extent
    extents::a_scan_stops_at_its_number_of_extents
    extents::a_scan_finds_one_partition_only
    extents::the_first_extent_at_or_after_a_time_is_found
    extents::retired_extents_are_gone
    extents::a_deleted_partitions_extents_are_gone
}
