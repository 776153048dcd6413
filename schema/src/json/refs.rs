//! References within a schema. Only those that begin with `#` as a pointer, or name an `$anchor`, are followed by columns and
//! comparisons. A reference that leads back to itself without going down in the value would be followed for ever.

use serde_json::{Map, Value};

use crate::{DEEPEST, Fault};

/// Keywords whose schemas hold for the same value.
const SAME_VALUE: [&str; 10] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies", "$ref"];
/// Places looked at: beyond, a schema is more of a puzzle.
const STEPS: usize = 100_000;

/// What a local reference names.
pub(super) fn resolve<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let fragment = reference.strip_prefix('#')?;
    if fragment.is_empty() || fragment.starts_with('/') {
        return root.pointer(&percent_decoded(fragment));
    }
    anchored(root, fragment, 0)
}

/// `%25` and the like, as a URI's fragment has them.
fn percent_decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.first_chunk::<2>().filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn anchored<'s>(schema: &'s Value, name: &str, depth: usize) -> Option<&'s Value> {
    if depth > 2 * DEEPEST {
        return None;
    }
    match schema {
        Value::Object(members) if members.get("$anchor").and_then(Value::as_str) == Some(name) => Some(schema),
        Value::Object(members) => members.values().find_map(|inner| anchored(inner, name, depth + 1)),
        Value::Array(items) => items.iter().find_map(|inner| anchored(inner, name, depth + 1)),
        _ => None,
    }
}

/// Refuses circles.
pub(super) fn check(root: &Value) -> Result<(), Fault> {
    let mut steps = 0;
    everywhere(root, root, &mut steps)
}

fn everywhere(root: &Value, schema: &Value, steps: &mut usize) -> Result<(), Fault> {
    match schema {
        Value::Object(members) => {
            if members.contains_key("$ref") {
                follow(root, schema, &mut Vec::new(), steps)?;
            }
            members.iter().try_for_each(|(name, inner)| everywhere(root, inner, steps).map_err(|fault| fault.inside(name)))
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(at, inner)| everywhere(root, inner, steps).map_err(|f| f.inside(at)))
        }
        _ => Ok(()),
    }
}

/// Follows what holds for the same value. `open` are the schemas that are being followed.
fn follow<'s>(root: &'s Value, schema: &'s Value, open: &mut Vec<*const Value>, steps: &mut usize) -> Result<(), Fault> {
    let Value::Object(members) = schema else { return Ok(()) };
    *steps += 1;
    if open.contains(&std::ptr::from_ref(schema)) {
        return Err(Fault::here("this reference leads back to itself"));
    }
    if *steps > STEPS || open.len() > 4 * DEEPEST {
        return Err(Fault::here("these references are too many to be followed"));
    }
    open.push(std::ptr::from_ref(schema));
    for inner in same_value(root, members) {
        follow(root, inner, open, steps)?;
    }
    open.pop();
    Ok(())
}

fn same_value<'s>(root: &'s Value, members: &'s Map<String, Value>) -> impl Iterator<Item = &'s Value> {
    SAME_VALUE.iter().filter_map(|name| Some((*name, members.get(*name)?))).flat_map(move |(name, value)| match (name, value) {
        ("$ref", Value::String(reference)) => resolve(root, reference).into_iter().collect(),
        ("dependentSchemas" | "dependencies", Value::Object(each)) => each.values().collect(),
        (_, Value::Array(each)) => each.iter().collect::<Vec<_>>(),
        (_, one) => vec![one],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_by_pointer_and_by_anchor_are_found() {
        let root = json!({"$defs": {"a/b": {"type": "null"}, "c%": {"$anchor": "here", "type": "string"}}});
        assert_eq!(resolve(&root, "#"), Some(&root));
        assert_eq!(resolve(&root, "#/$defs/a~1b"), Some(&root["$defs"]["a/b"]));
        assert_eq!(resolve(&root, "#/$defs/c%25"), Some(&root["$defs"]["c%"]));
        assert_eq!(resolve(&root, "#here"), Some(&root["$defs"]["c%"]));
        assert_eq!(resolve(&root, "#there"), None);
        assert_eq!(resolve(&root, "other.json"), None);
    }
}
