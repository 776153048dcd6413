//! Runs the contract's sentences on each store. A sentence that is not in the list is a warning: it would be dead code.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::postgres::{PostgresConfig, PostgresStore};
use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::{MetadataStore, Replica, ReplicaId};
use lakefall_queue::clock::Clock;
use lakefall_servers::Postgres;
use lakefall_service::system_ambient;
use tempfile::TempDir;

use crate::{checkpoints, extents, journal, leases, queues, schemas, usage};

/// A lease that does not end during a test.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Where a store of one kind is: empty at first.
pub(crate) trait Kind: Any + Send + Sized {
    async fn place() -> Self;

    /// The store, for the only process or for a replica.
    async fn open(&self) -> Arc<dyn MetadataStore>;
}

/// A store that replicas share.
pub(crate) trait Shared: Kind {
    /// The store for a replica whose leases last so long.
    async fn replica(&self, number: u128, lease: Duration) -> Arc<dyn MetadataStore>;
}

pub(crate) fn replica(number: u128) -> Replica {
    Replica { id: ReplicaId(number), address: format!("http://replica-{number}:7400") }
}

/// In memory, for one process.
pub(crate) struct Memory;

impl Kind for Memory {
    async fn place() -> Self {
        Self
    }

    async fn open(&self) -> Arc<dyn MetadataStore> {
        Arc::new(MemoryStore::new())
    }
}

/// In memory, for replicas.
pub(crate) struct MemoryReplicas(MemoryStore, Arc<dyn Clock>);

impl Kind for MemoryReplicas {
    async fn place() -> Self {
        Self(MemoryStore::new(), system_ambient().clock)
    }

    async fn open(&self) -> Arc<dyn MetadataStore> {
        self.replica(1, LONG).await
    }
}

impl Shared for MemoryReplicas {
    async fn replica(&self, number: u128, lease: Duration) -> Arc<dyn MetadataStore> {
        Arc::new(self.0.replica(replica(number), lease, Arc::clone(&self.1)))
    }
}

pub(crate) struct Sqlite(TempDir);

impl Kind for Sqlite {
    async fn place() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn MetadataStore> {
        Arc::new(SqliteStore::open(&self.0.path().join("metadata.sqlite")).await.unwrap())
    }
}

/// A database of its own in the server that all tests share.
pub(crate) struct PostgresPlace {
    pub(crate) server: Arc<Postgres>,
    pub(crate) database: String,
}

impl PostgresPlace {
    pub(crate) fn config(&self) -> PostgresConfig {
        PostgresConfig::new(self.server.url_for(&self.database))
    }

    pub(crate) async fn store(&self, number: u128, lease: Duration) -> PostgresStore {
        PostgresStore::connect(&self.config(), replica(number), lease).await.unwrap()
    }

    /// Runs statements as superuser.
    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.server.sql(&self.database, statements).await
    }
}

impl Kind for PostgresPlace {
    async fn place() -> Self {
        let server = Postgres::shared().await;
        let database = server.fresh_database().await;
        Self { server, database }
    }

    async fn open(&self) -> Arc<dyn MetadataStore> {
        self.replica(1, LONG).await
    }
}

impl Shared for PostgresPlace {
    async fn replica(&self, number: u128, lease: Duration) -> Arc<dyn MetadataStore> {
        Arc::new(self.store(number, lease).await)
    }
}

macro_rules! on {
    ($store:ident is $kind:ident: $($module:ident::$sentence:ident)*) => {
        mod $store {
            use super::*;
            $(#[tokio::test]
            async fn $sentence() {
                $module::$sentence::<$kind>().await;
            })*
        }
    };
}

macro_rules! contract {
    (every { $($every:ident::$sentence:ident)* } kept { $($kept:ident::$memory:ident)* } shared { $($shared:ident::$promise:ident)* }) => {
        on! { memory is Memory: $($every::$sentence)* }
        on! { memory_replicas is MemoryReplicas: $($every::$sentence)* $($shared::$promise)* }
        on! { sqlite is Sqlite: $($every::$sentence)* $($kept::$memory)* }
        on! { postgres is PostgresPlace: $($every::$sentence)* $($kept::$memory)* $($shared::$promise)* }
    };
}

contract! {
    every {
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
        checkpoints::a_checkpoint_that_is_older_than_the_one_that_stands_is_fenced_and_changes_nothing
        checkpoints::an_append_of_an_old_epoch_is_fenced_also_at_a_place_that_a_checkpoint_emptied
        checkpoints::a_shards_rows_are_not_anothers
        queues::rows_of_queues_are_written_replaced_and_deleted
        queues::more_blocks_than_a_statement_takes_are_all_written
        schemas::rows_of_schemas_are_written_replaced_and_deleted
        schemas::many_large_schemas_are_all_written
        usage::rows_of_usage_are_written_added_to_and_deleted
        usage::more_rows_of_usage_than_a_statement_takes_are_all_written
        extents::a_scan_begins_with_the_extent_that_holds_the_offset
        extents::a_scan_ends_below_its_bound
        extents::a_scan_stops_at_its_byte_budget_after_at_least_one_extent
        extents::a_scan_stops_at_its_number_of_extents
        extents::a_scan_finds_one_partition_only
        extents::a_long_scan_finds_every_extent_once
        extents::the_first_extent_at_or_after_a_time_is_found
        extents::an_extent_is_found_by_time_whatever_the_order_of_the_times
        extents::retired_extents_are_gone
        extents::a_deleted_partitions_extents_are_gone
    }
    kept {
        journal::a_store_has_an_identity_of_its_own_that_stays
    }
    shared {
        leases::a_live_lease_refuses_everybody_else
        leases::an_ended_lease_is_taken_with_a_higher_epoch_and_the_old_owner_is_fenced
        leases::a_lease_that_is_renewed_does_not_end
        leases::a_renewal_tells_which_leases_were_lost
        leases::a_lease_that_ended_is_lost_although_nobody_took_the_shard
        leases::a_replica_takes_its_own_shard_again_with_a_higher_epoch
        leases::a_shard_given_back_is_free_at_once
        leases::who_lost_a_shard_cannot_give_it_back
        leases::the_roll_names_the_living_and_who_holds_what_for_how_long
        leases::who_leaves_is_off_the_roll_at_once
        leases::who_falls_silent_is_off_the_roll_when_its_lease_has_ended
        leases::of_many_who_take_a_free_shard_one_gets_it
        leases::an_append_that_races_a_take_stands_before_it_or_never
        leases::of_two_writers_of_one_place_exactly_one_wins
    }
}
