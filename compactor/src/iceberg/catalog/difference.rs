//! What the bucket's table has beyond the catalog's, as the requirements and updates of a commit. Pure.

use serde_json::{Map, Value, json};

use super::CatalogError;
use crate::iceberg::table::{POSITION, Table};

/// A property of the catalog's table only: its documents before the last hundred go, as the bucket's do.
const DELETE_OLD: (&str, &str) = ("write.metadata.delete-after-commit.enabled", "true");

/// The body of a commit that brings their table to ours; `None` if theirs shows as much.
pub(super) fn commit(ours: &Table, theirs: &Table) -> Result<Option<Value>, CatalogError> {
    let (us, they) = (&ours.document, &theirs.document);
    if us["table-uuid"] != they["table-uuid"] {
        return Err(CatalogError::Other(format!("its UUID is {}, and that in the bucket {}", they["table-uuid"], us["table-uuid"])));
    }
    if theirs.position() >= ours.position() {
        return Ok(None);
    }
    let mut updates = schemas(us, they);
    updates.extend(snapshots(ours, theirs)?);
    let mut properties = properties(us, they);
    // A place at which nothing else changed is not worth a version.
    if updates.is_empty() && properties.is_empty() {
        return Ok(None);
    }
    properties.insert(POSITION.to_owned(), us["properties"][POSITION].clone());
    properties.insert(DELETE_OLD.0.to_owned(), DELETE_OLD.1.into());
    updates.push(json!({"action": "set-properties", "updates": properties}));
    let requirements = json!([
        {"type": "assert-table-uuid", "uuid": they["table-uuid"]},
        {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": theirs.current()},
        {"type": "assert-current-schema-id", "current-schema-id": they["current-schema-id"]},
    ]);
    Ok(Some(json!({"requirements": requirements, "updates": updates})))
}

/// Schemas that they lack, the current one last, and which one is current. By their columns: the catalog numbers them itself.
fn schemas(us: &Value, they: &Value) -> Vec<Value> {
    let theirs = |schema: &Value| list(they, "schemas").find(|known| known["fields"] == schema["fields"]);
    let current = &us["current-schema-id"];
    let missing = || list(us, "schemas").filter(|schema| theirs(schema).is_none());
    let before = missing().filter(|schema| schema["schema-id"] != *current);
    let last = missing().find(|schema| schema["schema-id"] == *current);
    let add = |schema: &Value| json!({"action": "add-schema", "schema": schema, "last-column-id": us["last-column-id"]});
    let mut updates: Vec<Value> = before.chain(last).map(add).collect();
    let known = list(us, "schemas").find(|schema| schema["schema-id"] == *current).and_then(theirs);
    match known {
        Some(known) if known["schema-id"] == they["current-schema-id"] => {}
        Some(known) => updates.push(json!({"action": "set-current-schema", "schema-id": known["schema-id"]})),
        // The one that was added last.
        None => updates.push(json!({"action": "set-current-schema", "schema-id": -1})),
    }
    updates
}

/// Snapshots that they lack, the branch, and snapshots that went.
fn snapshots(ours: &Table, theirs: &Table) -> Result<Vec<Value>, CatalogError> {
    let (us, they) = (&ours.document, &theirs.document);
    let ids = |of: &Value| list(of, "snapshots").filter_map(|snapshot| snapshot["snapshot-id"].as_i64()).collect::<Vec<_>>();
    let (known, named) = (ids(they), ids(us));
    // A catalog takes rising sequence numbers only: an older one went there already.
    let since = they["last-sequence-number"].as_i64().unwrap_or_default();
    let is_new = |snapshot: &&Value| {
        let id = snapshot["snapshot-id"].as_i64();
        id.is_some_and(|id| !known.contains(&id)) && snapshot["sequence-number"].as_i64().is_some_and(|number| number > since)
    };
    let added: Vec<&Value> = list(us, "snapshots").filter(is_new).collect();
    let current = ours.current();
    let is_current = |id: i64| Some(id) == current;
    if !known.iter().copied().any(is_current) && !added.iter().filter_map(|snapshot| snapshot["snapshot-id"].as_i64()).any(is_current) {
        return Err(CatalogError::Other("others committed to it".to_owned()));
    }
    let mut updates: Vec<Value> = added.iter().map(|snapshot| json!({"action": "add-snapshot", "snapshot": snapshot})).collect();
    if theirs.current() != current {
        updates.push(json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": current}));
    }
    let gone: Vec<i64> = known.into_iter().filter(|id| !named.contains(id)).collect();
    if !gone.is_empty() {
        updates.push(json!({"action": "remove-snapshots", "snapshot-ids": gone}));
    }
    Ok(updates)
}

/// Properties that differ, but for the place.
fn properties(us: &Value, they: &Value) -> Map<String, Value> {
    let mut wanted = us["properties"].as_object().cloned().unwrap_or_default();
    wanted.retain(|name, value| name != POSITION && they["properties"][name.as_str()] != *value);
    wanted
}

fn list<'a>(document: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    document[name].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table at a place, with snapshots and columns of these numbers.
    fn table(position: u64, snapshots: &[i64], columns: &[i64]) -> Table {
        let schema = |(at, column): (usize, &i64)| json!({"type": "struct", "schema-id": at, "fields": [{"id": column}]});
        let snapshot = |id: &i64| json!({"snapshot-id": id, "sequence-number": id});
        let last = snapshots.last().copied().unwrap_or(-1);
        let document = json!({
            "table-uuid": "u", "last-sequence-number": last.max(0), "last-column-id": columns.last(), "current-snapshot-id": last,
            "schemas": columns.iter().enumerate().map(schema).collect::<Vec<_>>(), "current-schema-id": columns.len() - 1,
            "snapshots": snapshots.iter().map(snapshot).collect::<Vec<_>>(),
            "properties": {POSITION: position.to_string(), "a": "b"},
        });
        Table { document }
    }

    fn actions(commit: &Value) -> Vec<&str> {
        commit["updates"].as_array().unwrap().iter().map(|update| update["action"].as_str().unwrap()).collect()
    }

    #[test]
    fn what_was_missed_is_told_at_once_and_what_went_goes() {
        let commit = commit(&table(9, &[4, 7, 9], &[1, 2, 3]), &table(4, &[2, 4], &[1])).unwrap().unwrap();
        let expected = [
            "add-schema",
            "add-schema",
            "set-current-schema",
            "add-snapshot",
            "add-snapshot",
            "set-snapshot-ref",
            "remove-snapshots",
            "set-properties",
        ];
        assert_eq!(actions(&commit), expected);
        let updates = &commit["updates"];
        assert_eq!((&updates[1]["schema"]["schema-id"], &updates[2]["schema-id"]), (&json!(2), &json!(-1)));
        assert_eq!((&updates[5]["snapshot-id"], &updates[6]["snapshot-ids"]), (&json!(9), &json!([2])));
        assert_eq!(updates[7]["updates"], json!({POSITION: "9", DELETE_OLD.0: DELETE_OLD.1}));
        assert_eq!(commit["requirements"][1]["snapshot-id"], json!(4));
        assert_eq!(commit["requirements"][2]["current-schema-id"], json!(0));
    }

    #[test]
    fn a_place_that_it_has_or_at_which_nothing_changed_is_no_commit() {
        for (ours, theirs) in [(4, 4), (4, 5), (5, 4)] {
            assert_eq!(commit(&table(ours, &[4], &[1]), &table(theirs, &[4], &[1])).unwrap(), None, "{ours} to {theirs}");
        }
    }

    #[test]
    fn columns_that_come_back_are_the_schema_that_it_knows() {
        let mut ours = table(5, &[4], &[1, 2]);
        ours.document["current-schema-id"] = json!(0);
        let commit = commit(&ours, &table(4, &[4], &[1, 2])).unwrap().unwrap();
        assert_eq!(actions(&commit), ["set-current-schema", "set-properties"]);
        assert_eq!(commit["updates"][0]["schema-id"], json!(0));
    }

    #[test]
    fn another_table_and_one_that_others_committed_to_are_left_alone() {
        let mut other = table(4, &[4], &[1]);
        other.document["table-uuid"] = json!("v");
        assert!(matches!(commit(&table(5, &[4, 5], &[1]), &other), Err(CatalogError::Other(_))));
        let mut other = table(4, &[4], &[1]);
        other.document["last-sequence-number"] = json!(5);
        assert!(matches!(commit(&table(5, &[4, 5], &[1]), &other), Err(CatalogError::Other(_))));
    }

    #[test]
    fn a_table_without_a_snapshot_is_required_to_have_none() {
        let commit = commit(&table(5, &[5], &[1]), &table(0, &[], &[1])).unwrap().unwrap();
        assert_eq!(commit["requirements"][1]["snapshot-id"], Value::Null);
    }
}
