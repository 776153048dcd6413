//! What all parts of a simulation share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lakefall_metadata::memory::MemoryStore;

use crate::hosts::Control;
use crate::late::Late;
use crate::lock;
use crate::objects::Bucket;
use crate::plan::{Host, Plan};
use crate::trace::Trace;
use crate::weather::Weather;

/// One simulation.
pub struct World {
    /// What its seed decided.
    pub plan: Plan,
    /// The faults that strike requests.
    pub weather: Arc<Weather>,
    /// The object store.
    pub bucket: Arc<Bucket>,
    /// The database.
    pub database: MemoryStore,
    /// What is on its way to the database.
    pub late: Late,
    /// What happened.
    pub trace: Arc<Trace>,
    controls: BTreeMap<Host, Control>,
    violations: Mutex<Vec<String>>,
}

impl World {
    /// Before anything runs.
    pub fn new(plan: Plan, weather: Arc<Weather>, trace: Arc<Trace>) -> Arc<Self> {
        let controls = plan.hosts().into_iter().map(|host| (host, Control::default())).collect();
        let bucket = Bucket::new(Arc::clone(&weather));
        let (database, late) = (MemoryStore::new(), Late::default());
        Arc::new(Self { plan, weather, bucket, database, late, trace, controls, violations: Mutex::default() })
    }

    /// What is said to a host's processes.
    pub fn control(&self, host: Host) -> &Control {
        &self.controls[&host]
    }

    /// The gateways' names.
    pub fn gateways(&self) -> Vec<String> {
        self.plan.hosts().into_iter().filter(|host| host.role == crate::plan::Role::Gateway).map(Host::name).collect()
    }

    /// Something is wrong, whatever the histories say.
    pub fn violation(&self, what: String) {
        self.trace.line("violation", format_args!("{what}"));
        lock(&self.violations).push(what);
    }

    /// What was wrong.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }
}
